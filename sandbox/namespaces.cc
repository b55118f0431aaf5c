#include "sandbox/namespaces.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/fd.h"

namespace bulkhead::sandbox {
namespace {

Result<void> write_file(const char* path, const std::string& text) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  if (!fd) return system_error(std::string("cannot open ") + path);
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return system_error(std::string("cannot write ") + path);
  return {};
}

// One in which this process is who it was before.
Result<void> enter_user_namespace() {
  const uid_t uid = ::geteuid();
  const gid_t gid = ::getegid();
  // The files of the identity maps belong to the process only while it is dumpable.
  ::prctl(PR_SET_DUMPABLE, 1);
  Result<void> done;
  if (::unshare(CLONE_NEWUSER) != 0) {
    const int refused = errno;
    done = Error{ErrorCode::kSystem, user_namespace_refusal(refused), refused};
  }
  if (done) done = write_file("/proc/self/setgroups", "deny");
  if (done) done = write_file("/proc/self/uid_map", std::to_string(uid) + " " + std::to_string(uid) + " 1");
  if (done) done = write_file("/proc/self/gid_map", std::to_string(gid) + " " + std::to_string(gid) + " 1");
  ::prctl(PR_SET_DUMPABLE, 0);
  return done;
}

Result<void> own_mounts() {
  if (::unshare(CLONE_NEWNS) != 0) return system_error("cannot make a mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return system_error("cannot make mounts private");
  return {};
}

// An empty, read-only file system in the place of everything. Some directory is needed to mount it on; /proc is there
// wherever descriptors can be reopened.
Result<void> empty_root() {
  if (auto own = own_mounts(); !own) return own;
  if (::mount("tmpfs", "/proc", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=4k,nr_inodes=2,mode=0555") != 0)
    return system_error("cannot mount an empty root");
  if (::chdir("/proc") != 0) return system_error("cannot enter the empty root");
  if (::syscall(SYS_pivot_root, ".", ".") != 0) return system_error("cannot change to the empty root");
  if (::umount2(".", MNT_DETACH) != 0) return system_error("cannot leave the old root");
  if (::chdir("/") != 0) return system_error("cannot enter the empty root");
  if (::mount(nullptr, "/", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) !=
      0) {
    return system_error("cannot make the empty root read-only");
  }
  return {};
}

}  // namespace

Result<void> become_user(std::uint32_t id) {
  if (::setgroups(0, nullptr) != 0) return system_error("cannot drop groups");
  if (::setresgid(id, id, id) != 0) return system_error("cannot change the group");
  if (::setresuid(id, id, id) != 0) return system_error("cannot change the user");
  return {};
}

std::string user_namespace_refusal(int error_number) {
  const char* const remedy =
      error_number == ENOSPC
          ? "raise the sysctl user.max_user_namespaces"
          : "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1 or "
            "kernel.apparmor_restrict_unprivileged_userns=0, whichever there is; in a container its seccomp profile)";
  return std::string("no user namespace: ") + std::strerror(error_number) + "; " + remedy;
}

Result<void> try_user_namespace(std::optional<std::uint32_t> id) {
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot fork");
  if (pid == 0) {
    // Who may not, as some roots of containers, makes them as who it is, as its services will.
    if (id) (void)become_user(*id).ok();
    Result<void> done = enter_user_namespace();
    if (done && ::unshare(CLONE_NEWNET) != 0) done = system_error("cannot make a network namespace");
    ::_exit(done ? 0 : done.error().errno_value);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return system_error("cannot wait for a child");
  }
  // Ended by a signal: some filter does not even answer.
  const int error_number = WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
  if (error_number == 0) return {};
  return Error{ErrorCode::kSystem, user_namespace_refusal(error_number), error_number};
}

Isolation isolate(bool empty_network, bool user_namespace) {
  Isolation had;
  if (user_namespace) {
    const auto entered = enter_user_namespace();
    if (!entered) {
      had.missing.push_back(entered.error().text + "; all others need it");
      return had;
    }
    had.user = true;
  }
  const auto take = [](int flag, const char* what, std::vector<std::string>& lacking) {
    if (::unshare(flag) != 0) lacking.push_back(system_error(std::string("cannot make ") + what).text);
  };
  if (empty_network) take(CLONE_NEWNET, "a network namespace", had.missing);
  take(CLONE_NEWIPC, "an IPC namespace", had.left_to_others);
  take(CLONE_NEWUTS, "a UTS namespace", had.left_to_others);
  if (const auto emptied = empty_root(); !emptied) had.left_to_others.push_back(emptied.error().text);
  return had;
}

std::optional<Capabilities> own_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return std::nullopt;
  return Capabilities{data[0].effective | (std::uint64_t{data[1].effective} << 32),
                      data[0].permitted | (std::uint64_t{data[1].permitted} << 32)};
}

bool set_own_capabilities(const Capabilities& wanted) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[0].effective = static_cast<std::uint32_t>(wanted.effective);
  data[1].effective = static_cast<std::uint32_t>(wanted.effective >> 32);
  data[0].permitted = static_cast<std::uint32_t>(wanted.permitted);
  data[1].permitted = static_cast<std::uint32_t>(wanted.permitted >> 32);
  return ::syscall(SYS_capset, &header, data) == 0;
}

void bound_capabilities(std::uint64_t kept) {
  for (int number = 0; number <= 63; ++number) {
    if ((kept >> number & 1) != 0) continue;
    // EINVAL: beyond the kernel's last one. EPERM: not ours to drop, as it was never there.
    if (::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0 && errno == EINVAL) break;
  }
}

Result<void> keep_capabilities(std::uint64_t kept) {
  bound_capabilities(kept);
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  if (!set_own_capabilities({kept, kept})) return system_error("cannot drop capabilities");
  return {};
}

}  // namespace bulkhead::sandbox
