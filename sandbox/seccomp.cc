#include "sandbox/seccomp.h"

#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <memory>

#include "base/fd.h"

namespace bulkhead::sandbox {
namespace {

Error seccomp_error(const std::string& what, int status) {
  errno = -status;
  return system_error("seccomp: " + what);
}

}  // namespace

Result<Program> compile(std::span<const CallRule> rules, Violation violation) {
  const std::uint32_t otherwise = violation == Violation::kTrap ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS;
  std::unique_ptr<void, void (*)(void*)> context(seccomp_init(otherwise), [](void* c) { seccomp_release(c); });
  if (!context) return Error{ErrorCode::kSystem, "seccomp: cannot begin a filter"};
  // A call of another architecture (x32, i386) has no business here at all.
  seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const auto& rule : rules) {
    const int number = seccomp_syscall_resolve_name(rule.name);
    if (number == __NR_SCMP_ERROR)
      return Error{ErrorCode::kInvalid, std::string("seccomp: unknown system call ") + rule.name};
    std::vector<scmp_arg_cmp> comparisons;
    for (const auto& argument : rule.arguments) {
      comparisons.push_back(scmp_arg_cmp{argument.index, SCMP_CMP_MASKED_EQ, argument.mask, argument.value});
    }
    const std::uint32_t action =
        rule.error_number == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(static_cast<std::uint16_t>(rule.error_number));
    const int status = seccomp_rule_add_array(context.get(), action, number, static_cast<unsigned>(comparisons.size()),
                                              comparisons.data());
    if (status != 0) return seccomp_error(std::string("rule for ") + rule.name, status);
  }
  UniqueFd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) return system_error("seccomp: cannot make a buffer");
  if (const int status = seccomp_export_bpf(context.get(), file.get()); status != 0)
    return seccomp_error("export", status);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return system_error("seccomp: cannot size the filter");
  Program program;
  program.instructions.resize(static_cast<std::size_t>(info.st_size) / sizeof(sock_filter));
  const auto wanted = static_cast<ssize_t>(program.instructions.size() * sizeof(sock_filter));
  if (::pread(file.get(), program.instructions.data(), static_cast<std::size_t>(wanted), 0) != wanted) {
    return system_error("seccomp: cannot read the filter");
  }
  return program;
}

int call_number(const char* name) {
  return seccomp_syscall_resolve_name(name);
}

std::string call_name(std::uint64_t number) {
  const std::unique_ptr<char, void (*)(void*)> name(
      number <= INT32_MAX ? seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number)) : nullptr,
      std::free);
  return name ? name.get() : "call " + std::to_string(number);
}

Result<void> install(const Program& program) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return system_error("cannot set no_new_privs");
  sock_fprog filter{};
  filter.len = static_cast<unsigned short>(program.instructions.size());
  filter.filter = const_cast<sock_filter*>(program.instructions.data());
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0)
    return system_error("cannot install the seccomp filter");
  return {};
}

}  // namespace bulkhead::sandbox
