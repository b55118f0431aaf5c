#pragma once

#include <linux/audit.h>
#include <linux/filter.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "sandbox/seccomp.h"

namespace bulkhead::sandbox::test {

// Of the kernel's interface (include/uapi/linux/seccomp.h).
inline constexpr std::uint32_t kKillProcess = 0x80000000;
inline constexpr std::uint32_t kTrap = 0x00030000;
inline constexpr std::uint32_t kAllow = 0x7fff0000;
constexpr std::uint32_t errno_action(int number) {
  return 0x00050000 | static_cast<std::uint32_t>(number);
}

#if defined(__x86_64__)
inline constexpr std::uint32_t kNative = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
inline constexpr std::uint32_t kNative = AUDIT_ARCH_AARCH64;
#endif

/// A system call as the kernel shows it to a filter.
struct Call {
  std::uint32_t number = 0;
  std::array<std::uint64_t, 6> arguments{};
  std::uint32_t architecture = kNative;
};

/// What a filter says to a call: an interpreter of classic BPF, as far as filters of seccomp may use it. Nothing when
/// the program is malformed. Little-endian machines only.
inline std::optional<std::uint32_t> evaluate(std::span<const sock_filter> code, const Call& call) {
  std::array<std::uint32_t, 16> input{};  // number, architecture, instruction pointer, arguments: low half first
  input[0] = call.number;
  input[1] = call.architecture;
  for (std::size_t i = 0; i < call.arguments.size(); ++i) {
    input[4 + 2 * i] = static_cast<std::uint32_t>(call.arguments[i]);
    input[5 + 2 * i] = static_cast<std::uint32_t>(call.arguments[i] >> 32);
  }
  std::uint32_t a = 0;
  for (std::size_t at = 0; at < code.size(); ++at) {
    const sock_filter& step = code[at];
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (step.k % 4 != 0 || step.k / 4 >= input.size()) return std::nullopt;
        a = input[step.k / 4];
        break;
      case BPF_LD | BPF_IMM:
        a = step.k;
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= step.k;
        break;
      case BPF_JMP | BPF_JA:
        at += step.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        at += a == step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        at += a > step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        at += a >= step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        at += (a & step.k) != 0 ? step.jt : step.jf;
        break;
      case BPF_RET | BPF_K:
        return step.k;
      case BPF_RET | BPF_A:
        return a;
      default:
        return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace bulkhead::sandbox::test
