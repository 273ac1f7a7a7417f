// The processors that the quotas of control groups leave (cores.h), read from folders made here.
#include "cores.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "check.h"

namespace {

using std::filesystem::path;

struct File {
  const char* name;
  const char* text;
};

void Expect(const path& root, const char* what, std::initializer_list<File> files, int64_t expected) {
  std::filesystem::remove_all(root);
  for (const File& file : files) {
    std::filesystem::create_directories((root / file.name).parent_path());
    std::ofstream(root / file.name) << file.text;
  }
  // A quota above the processors of this machine changes nothing.
  expected = std::min<int64_t>(expected, std::max(std::thread::hardware_concurrency(), 1u));
  const int64_t found = aerogel::Cores(root.string());
  if (found != expected) {
    check::Fail(std::string(what) + ": " + std::to_string(found) + " cores, not " + std::to_string(expected));
  }
}

}  // namespace

int main() {
  char name[] = "/tmp/aerogel-cores-XXXXXX";
  if (!mkdtemp(name)) return 2;
  const path root = path(name) / "machine";
  const int64_t all = 1 << 20;
  Expect(root, "no control groups", {}, all);
  Expect(root, "no quota", {{"proc/self/cgroup", "0::/job\n"}, {"sys/fs/cgroup/job/cpu.max", "max 100000\n"}}, all);
  Expect(root, "version 2", {{"proc/self/cgroup", "0::/job\n"}, {"sys/fs/cgroup/job/cpu.max", "100000 100000\n"}}, 1);
  Expect(root, "less than one processor",
         {{"proc/self/cgroup", "0::/job\n"}, {"sys/fs/cgroup/job/cpu.max", "50000 100000\n"}}, 1);
  Expect(root, "rounded down", {{"proc/self/cgroup", "0::/job\n"}, {"sys/fs/cgroup/job/cpu.max", "199999 100000\n"}},
         1);
  Expect(root, "an ancestor",
         {{"proc/self/cgroup", "0::/a/b/c\n"},
          {"sys/fs/cgroup/a/cpu.max", "100000 100000\n"},
          {"sys/fs/cgroup/a/b/cpu.max", "800000 100000\n"}},
         1);
  Expect(root, "a container that has only the root of the mount",
         {{"proc/self/cgroup", "0::/docker/3f\n"}, {"sys/fs/cgroup/cpu.max", "100000 100000\n"}}, 1);
  Expect(root, "version 1",
         {{"proc/self/cgroup", "4:memory:/job\n3:cpu,cpuacct:/job\n"},
          {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "100000\n"},
          {"sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n"}},
         1);
  Expect(root, "version 1 without a quota",
         {{"proc/self/cgroup", "3:cpu:/job\n"},
          {"sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "-1\n"},
          {"sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n"}},
         all);
  Expect(root, "a group of another controller",
         {{"proc/self/cgroup", "4:cpuset:/job\n"}, {"sys/fs/cgroup/cpu/job/cpu.max", "100000 100000\n"}}, all);
  Expect(root, "malformed files", {{"proc/self/cgroup", "\n::\n0::/job"}, {"sys/fs/cgroup/job/cpu.max", "many\n"}},
         all);
  std::filesystem::remove_all(name);
  return check::Finish(0);  // nothing here is random
}
