// Registers with a fake runtime: what is created once, what every time, and what after a failure.
//
//   register_test
#include <map>

#include "check.h"
#include "ort_abi.h"

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const aerogel::ort::ApiBase* base);

struct OrtStatus {};
struct OrtSessionOptions {
  std::vector<OrtCustomOpDomain*> domains;
};
struct OrtCustomOpDomain {
  std::string name;
  std::vector<const OrtCustomOp*> operators;
};

namespace {

using aerogel::ort::Api;
using check::Fail;
namespace slot = aerogel::ort::slot;

int created = 0, released = 0;
int adds_until_failure = -1;  // CustomOpDomain_Add fails after this number of calls
OrtStatus failure;

Api MakeApi() {
  Api api{};
  const auto set = [&](int at, auto* function) { api.functions[at] = reinterpret_cast<void*>(function); };
  set(
      slot::CreateCustomOpDomain, +[](const char* name, OrtCustomOpDomain** domain) -> OrtStatus* {
        ++created;
        *domain = new OrtCustomOpDomain{name, {}};
        return nullptr;
      });
  set(
      slot::CustomOpDomain_Add, +[](OrtCustomOpDomain* domain, const OrtCustomOp* op) -> OrtStatus* {
        if (adds_until_failure-- == 0) return &failure;
        domain->operators.push_back(op);
        return nullptr;
      });
  set(
      slot::AddCustomOpDomain, +[](OrtSessionOptions* options, OrtCustomOpDomain* domain) -> OrtStatus* {
        options->domains.push_back(domain);
        return nullptr;
      });
  set(
      slot::ReleaseCustomOpDomain, +[](OrtCustomOpDomain* domain) {
        ++released;
        delete domain;
      });
  return api;
}

const Api kFirst = MakeApi(), kSecond = MakeApi();

const Api* Old(uint32_t) { return nullptr; }
const Api* First(uint32_t) { return &kFirst; }
const Api* Second(uint32_t) { return &kSecond; }

void Expect(bool good, const std::string& what) {
  if (!good) Fail(what + ": " + std::to_string(created) + " created, " + std::to_string(released) + " released");
}

}  // namespace

int main() {
  const aerogel::ort::ApiBase old{Old, nullptr}, first{First, nullptr}, second{Second, nullptr};
  OrtSessionOptions options;
  Expect(!RegisterCustomOps(&options, &old) && options.domains.empty(), "a runtime that is too old");

  adds_until_failure = 3;
  Expect(RegisterCustomOps(&options, &first) == &failure && options.domains.empty(), "a failure is handed on");
  Expect(created == 1 && released == 1, "what a failure leaves");

  for (int i = 0; i < 100; ++i) Expect(!RegisterCustomOps(&options, &first), "registration");
  Expect(created == 2 && released == 1, "a hundred registrations");
  Expect(options.domains.size() == 100, "every options object has the domain");
  for (const OrtCustomOpDomain* domain : options.domains) Expect(domain == options.domains[0], "it is the same one");
  Expect(options.domains[0]->name == "aerogel" && options.domains[0]->operators.size() == 10, "all operators");

  OrtSessionOptions others;
  Expect(!RegisterCustomOps(&others, &second) && others.domains.size() == 1, "another runtime");
  Expect(created == 3 && others.domains[0] != options.domains[0], "each runtime has its own domain");
  Expect(others.domains[0]->operators[0] != options.domains[0]->operators[0], "and its own operators");
  return check::Finish(0);
}
