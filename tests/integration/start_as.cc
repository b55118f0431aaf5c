#include <grp.h>
#include <linux/filter.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// start-as [--user N] [--no-user-namespaces] PROGRAM ARGUMENTS...: becomes the program, as an ordinary user or where
// the kernel, as in many containers, gives nobody a user namespace.
namespace {

// Of the kernel's interface (include/uapi/linux/seccomp.h).
constexpr unsigned int kNumberAt = 0;     // where a filter finds the call's number
constexpr unsigned int kArgumentAt = 16;  // and the low half of its first argument
constexpr unsigned int kAllow = 0x7fff0000;
constexpr unsigned int kError = 0x00050000;
constexpr unsigned long kModeFilter = 2;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "start-as: %s: %s\n", what, std::strerror(errno));
  std::exit(126);
}

void become(unsigned int id) {
  if (::setgroups(0, nullptr) != 0 || ::setresgid(id, id, id) != 0 || ::setresuid(id, id, id) != 0) fail("user");
}

// As container engines do it: unshare and clone with CLONE_NEWUSER fail, clone3 as if there were none.
void refuse_user_namespaces() {
  std::array<sock_filter, 9> code = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kNumberAt),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 5, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kArgumentAt),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER, 2, 0),
      BPF_STMT(BPF_RET | BPF_K, kAllow),
      BPF_STMT(BPF_RET | BPF_K, kError | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, kError | EPERM),
  }};
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("no_new_privs");
  if (::prctl(PR_SET_SECCOMP, kModeFilter, &program) != 0) fail("filter");
}

}  // namespace

int main(int count, char** words) {
  int at = 1;
  for (; at < count; ++at) {
    if (std::strcmp(words[at], "--user") == 0 && at + 1 < count) {
      become(static_cast<unsigned int>(std::strtoul(words[++at], nullptr, 10)));
    } else if (std::strcmp(words[at], "--no-user-namespaces") == 0) {
      refuse_user_namespaces();
    } else {
      break;
    }
  }
  if (at >= count) return 125;
  ::execv(words[at], words + at);
  fail(words[at]);
}
