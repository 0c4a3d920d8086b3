// Arguments that are not carried out. Python tells a refusal from other errors by how its message begins.
#pragma once

#include <stdexcept>
#include <string>

namespace gk {

struct Refusal : std::runtime_error {
  explicit Refusal(const std::string& why) : std::runtime_error("refused: " + why) {}
};

}  // namespace gk
