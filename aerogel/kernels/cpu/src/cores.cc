#include "cores.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>

namespace aerogel {
namespace {

// Lowers `limit` to the quota in a control group's folder: cpu.max (version 2) or cpu.cfs_quota_us (version 1).
// A group without a quota has "max" or -1 there, which is not a positive number.
void Limit(const std::string& group, double* limit) {
  int64_t quota = 0, period = 0;
  const auto apply = [&] {
    if (quota > 0 && period > 0) *limit = std::min(*limit, static_cast<double>(quota) / static_cast<double>(period));
  };
  if (std::ifstream(group + "/cpu.max") >> quota >> period) apply();
  quota = period = 0;
  std::ifstream(group + "/cpu.cfs_quota_us") >> quota;
  std::ifstream(group + "/cpu.cfs_period_us") >> period;
  apply();
}

}  // namespace

int64_t Cores(const std::string& root) {
  double limit = std::max(std::thread::hardware_concurrency(), 1u);
  std::ifstream groups(root + "/proc/self/cgroup");
  // Each line is number:controllers:path; version 2 has no controllers.
  for (std::string line; std::getline(groups, line);) {
    std::istringstream fields(line);
    std::string number, controllers, path;
    std::getline(std::getline(std::getline(fields, number, ':'), controllers, ':'), path);
    if (!controllers.empty() && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    // In a container, the path may be the host's; the container's own group is then the root of the mount.
    for (const char* mount :
         {"/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"}) {
      for (std::string group = path;; group.resize(group.rfind('/'))) {
        Limit(root + mount + group, &limit);
        if (group.find('/') == std::string::npos) break;
      }
    }
  }
  return std::max<int64_t>(static_cast<int64_t>(limit), 1);
}

}  // namespace aerogel
