#include <gtest/gtest.h>
#include <linux/capability.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <tuple>
#include <vector>

#include "sandbox/policy.h"

// docs/security.md has the policies as tables for people. They must say what sandbox/policy.cc says.
namespace bulkhead::sandbox {
namespace {

constexpr std::array<Role, 6> kRoles = {Role::kConn,     Role::kKeyholder,  Role::kController,
                                        Role::kAcceptor, Role::kMaintainer, Role::kNursery};
constexpr std::array<Role, 7> kAllRoles = {Role::kConn,       Role::kKeyholder, Role::kController, Role::kAcceptor,
                                           Role::kMaintainer, Role::kNursery,   Role::kSupervisor};

using Rows = std::vector<std::vector<std::string>>;
using Names = std::set<std::string>;

std::string trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(trimmed(part));
  return parts;
}

Names names_of(const std::string& cell) {
  Names names;
  for (const std::string& name : split(cell, ',')) names.insert(name);
  return names;
}

/// The first table behind a heading, without its own.
Rows table_behind(const std::string& heading) {
  std::ifstream file(std::string(BULKHEAD_SOURCE_DIR) + "/docs/security.md");
  EXPECT_TRUE(file) << "docs/security.md cannot be read";
  Rows rows;
  bool here = false;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) {
      if (here) break;
      here = line == heading;
    } else if (here && line.starts_with("|")) {
      auto cells = split(line.substr(1), '|');
      if (!cells.empty() && cells.front().starts_with("---")) {
        rows.clear();  // what came before was the header
      } else {
        rows.push_back(std::move(cells));
      }
    }
  }
  EXPECT_FALSE(rows.empty()) << "no table behind: " << heading;
  return rows;
}

std::string joined(const Names& names) {
  std::string text;
  for (const std::string& name : names) text += name + " ";
  return text;
}

Names role_names() {
  Names names;
  for (const Role role : kAllRoles) names.insert(role_name(role));
  return names;
}

std::string capabilities_text(std::uint64_t mask) {
  const std::map<int, std::string> known = {{CAP_SYS_ADMIN, "SYS_ADMIN"},
                                            {CAP_SETUID, "SETUID"},
                                            {CAP_SETGID, "SETGID"},
                                            {CAP_KILL, "KILL"},
                                            {CAP_SETPCAP, "SETPCAP"},
                                            {CAP_CHOWN, "CHOWN"},
                                            {CAP_DAC_OVERRIDE, "DAC_OVERRIDE"}};
  std::string text;
  for (int number = 0; number < 64; ++number) {
    if ((mask >> number & 1) == 0) continue;
    const auto found = known.find(number);
    text += (text.empty() ? "" : ", ") + (found == known.end() ? std::to_string(number) : found->second);
  }
  return text.empty() ? "none" : text;
}

std::string error_text(int number) {
  const std::map<int, std::string> known = {
      {EACCES, "EACCES"}, {ENOMEM, "ENOMEM"}, {EPERM, "EPERM"}, {ENOSYS, "ENOSYS"}, {EAFNOSUPPORT, "EAFNOSUPPORT"}};
  const auto found = known.find(number);
  return found == known.end() ? std::to_string(number) : found->second;
}

TEST(SecurityDocument, HasTheRolesOfThePolicy) {
  Names seen;
  for (const auto& row : table_behind("### Roles")) {
    ASSERT_GE(row.size(), 7U);
    SCOPED_TRACE(row[0]);
    EXPECT_TRUE(seen.insert(row[0]).second) << "twice";
    const auto role = std::find_if(kAllRoles.begin(), kAllRoles.end(), [&](Role r) { return row[0] == role_name(r); });
    ASSERT_NE(role, kAllRoles.end()) << "no such role";
    const RolePolicy& policy = policy_of(*role);
    EXPECT_EQ(row[1], policy.user_offset == 0 ? "as started" : std::to_string(kFirstUser + policy.user_offset));
    EXPECT_EQ(joined(names_of(row[2])), joined(names_of(capabilities_text(policy.capabilities))));
    Names namespaces = {"none"};
    if (policy.own_namespaces) namespaces = {"user", "mount", "ipc", "uts"};
    if (policy.empty_network) namespaces.insert("net");
    EXPECT_EQ(joined(names_of(row[3])), joined(namespaces));
    EXPECT_EQ(row[4], policy.may_connect_tcp ? "yes" : "no");
    EXPECT_EQ(row[5], policy.may_fork ? "yes" : "no");
    EXPECT_EQ(row[6], std::to_string(policy.data_bytes >> 20) + " MiB");
  }
  EXPECT_EQ(joined(seen), joined(role_names()));
}

TEST(SecurityDocument, HasAReasonForEachCapabilityThatIsKept) {
  std::map<std::string, Names> in_document;
  for (const auto& row : table_behind("### Capabilities")) {
    ASSERT_GE(row.size(), 4U) << row[0];
    EXPECT_FALSE(row[2].empty() || row[3].empty()) << row[1];
    for (const std::string& name : split(row[1], ',')) {
      EXPECT_TRUE(in_document[row[0]].insert(name).second) << row[0] << ", " << name << " twice";
    }
  }
  for (const Role role : kAllRoles) {
    std::uint64_t mask = policy_of(role).capabilities;
    if (role == Role::kSupervisor) mask |= kCapabilitiesForNamespaces | kCapabilitiesForForeignFiles;
    const Names expected = mask == 0 ? Names() : names_of(capabilities_text(mask));
    EXPECT_EQ(joined(in_document[role_name(role)]), joined(expected)) << role_name(role);
  }
}

TEST(SecurityDocument, HasTheSystemCallsOfTheSupervisor) {
  std::map<std::string, std::string> in_document;
  for (const auto& row : table_behind("### System calls of the supervisor")) {
    ASSERT_GE(row.size(), 3U) << row[0];
    for (const std::string& call : split(row[0], ',')) {
      EXPECT_TRUE(in_document.emplace(call, row[1]).second) << call << " twice";
    }
  }
  std::map<std::string, bool> in_policy;
  for (const CallRule& rule : policy_of(Role::kSupervisor).calls) {
    const bool any = rule.arguments.empty() && rule.error_number == 0;
    in_policy[rule.name] = in_policy[rule.name] || any;
    EXPECT_TRUE(rule.error_number == 0 || in_document[rule.name] == error_text(rule.error_number)) << rule.name;
  }
  for (const auto& [call, any] : in_policy) {
    ASSERT_TRUE(in_document.contains(call)) << "the document lacks " << call;
    EXPECT_EQ(in_document[call] == "any", any) << call << ": whether arguments are looked at";
  }
  for (const auto& [call, arguments] : in_document)
    EXPECT_TRUE(in_policy.contains(call)) << "the policy lacks " << call;
}

TEST(SecurityPolicy, GivesNoServiceMoreMemoryThanTheSupervisorWhoseLimitItInherits) {
  for (const Role role : kRoles) EXPECT_LE(policy_of(role).data_bytes, policy_of(Role::kSupervisor).data_bytes);
}

/// (call, role): whether its arguments are looked at.
using Allowed = std::map<std::pair<std::string, std::string>, bool>;

TEST(SecurityDocument, HasTheSystemCallsOfThePolicy) {
  Allowed in_policy;
  for (const Role role : kRoles) {
    for (const CallRule& rule : policy_of(role).calls) {
      if (rule.error_number != 0) continue;
      const auto key = std::pair<std::string, std::string>(rule.name, role_name(role));
      const bool looked_at = !rule.arguments.empty();
      const auto [at, fresh] = in_policy.emplace(key, looked_at);
      at->second = at->second && looked_at;
    }
  }
  Allowed in_document;
  for (const auto& row : table_behind("### System calls")) {
    ASSERT_GE(row.size(), 3U) << row[0];
    for (const std::string& call : split(row[0], ',')) {
      for (const std::string& role : split(row[1], ',')) {
        EXPECT_TRUE(in_document.emplace(std::pair(call, role), row[2] != "any").second)
            << call << ", " << role << " twice";
      }
    }
  }
  for (const auto& [key, looked_at] : in_policy) {
    const auto found = in_document.find(key);
    if (found == in_document.end()) {
      ADD_FAILURE() << key.second << " may call " << key.first << ", which the document does not say";
    } else {
      EXPECT_EQ(found->second, looked_at) << key.second << ", " << key.first << ": whether arguments are looked at";
    }
  }
  for (const auto& [key, looked_at] : in_document) {
    EXPECT_TRUE(in_policy.contains(key)) << "the document lets " << key.second << " call " << key.first;
  }
}

TEST(SecurityDocument, HasTheCallsThatThePolicyRefusesWithAnError) {
  std::set<std::tuple<std::string, std::string, std::string>> in_policy;
  for (const Role role : kRoles) {
    for (const CallRule& rule : policy_of(role).calls) {
      if (rule.error_number != 0) in_policy.emplace(rule.name, role_name(role), error_text(rule.error_number));
    }
  }
  std::set<std::tuple<std::string, std::string, std::string>> in_document;
  for (const auto& row : table_behind("### Refused with an error")) {
    ASSERT_GE(row.size(), 3U) << row[0];
    for (const std::string& role : split(row[1], ',')) in_document.emplace(row[0], role, row[2]);
  }
  for (const auto& [call, role, error] : in_policy) {
    EXPECT_TRUE(in_document.contains({call, role, error}))
        << "the document lacks " << call << ", " << role << ", " << error;
  }
  for (const auto& [call, role, error] : in_document) {
    EXPECT_TRUE(in_policy.contains({call, role, error}))
        << "the policy lacks " << call << ", " << role << ", " << error;
  }
}

TEST(SecurityDocument, NamesTheSizesOfTheListsRight) {
  std::ifstream file(std::string(BULKHEAD_SOURCE_DIR) + "/docs/security.md");
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const auto calls = [](Role role) {
    Names names;
    for (const CallRule& rule : policy_of(role).calls) {
      if (rule.error_number == 0) names.insert(rule.name);
    }
    return std::to_string(names.size());
  };
  EXPECT_NE(text.find("try the kernel with " + calls(Role::kConn) + " system calls"), std::string::npos);
  EXPECT_NE(text.find("has " + calls(Role::kKeyholder) + " system calls"), std::string::npos);
  EXPECT_NE(text.find("is given " + std::to_string(policy_of(Role::kKeyholder).heap_bytes >> 20) + " MiB of heap"),
            std::string::npos);
}

}  // namespace
}  // namespace bulkhead::sandbox
