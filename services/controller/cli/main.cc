#include <exception>
#include <string>
#include <vector>

#include "services/controller/cli/output.h"
#include "services/controller/cli/program.h"

int main(int argc, char** argv) {
  try {
    return bulkhead::cli::run_program(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  } catch (const std::exception& problem) {
    bulkhead::cli::complain(problem.what());
    return bulkhead::cli::exit_status(bulkhead::ProgramExit::kFailed);
  }
}
