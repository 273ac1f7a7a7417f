// The processors that this process may use.
#pragma once

#include <cstdint>
#include <string>

namespace aerogel {

// Processors in the affinity of this process, limited by the CPU quotas of its control groups (rounded down); at
// least 1. std::thread::hardware_concurrency knows nothing of quotas. root: folder with proc and sys.
int64_t Cores(const std::string& root = "/");

}  // namespace aerogel
