// The Python module: facts of the build, and hooks for tests. The ops register with torch when this library is loaded.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "common/philox.h"
#include "cpu/vector.h"
#include "pages.h"

namespace py = pybind11;

namespace {

void force_isa(const std::optional<std::string>& name) {
  if (gk::force_loops(name ? name->c_str() : nullptr)) return;
  throw py::value_error("'" + *name + "' is not available here; choose 'scalar', 'avx2', 'avx512' or None");
}

py::tuple philox(const std::array<uint32_t, 4>& counter, const std::array<uint32_t, 2>& key) {
  const gk::Words c{{counter[0], counter[1], counter[2], counter[3]}};
  const gk::Words words = gk::philox(c, uint64_t{key[1]} << 32 | key[0]);
  return py::make_tuple(words.w[0], words.w[1], words.w[2], words.w[3]);
}

void ask_for_huge_pages(uintptr_t address, size_t bytes) {
  gk::ask_for_huge_pages(reinterpret_cast<void*>(address), bytes);
}

py::dict build_info() {
#if defined(GK_CUDA)
  const py::object cuda = py::str(GK_CUDA);
#else
  const py::object cuda = py::none();
#endif
  return py::dict(py::arg("version") = GK_VERSION, py::arg("torch") = GK_TORCH_VERSION,
                  py::arg("compiler") = __VERSION__, py::arg("cuda") = cuda);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of growkernels.";
  m.def("isa", [] { return gk::loops().name; }, "The instruction set of the CPU kernels in use.");
  m.def("force_isa", &force_isa, py::arg("name"), "Use 'scalar', 'avx2' or 'avx512', or the widest if None.");
  m.def("philox", &philox, py::arg("counter"), py::arg("key"),
        "Philox4x32 with 7 rounds: four words from a counter of four and a key of two, 32 bits each.");
  m.def("ask_for_huge_pages", &ask_for_huge_pages, py::arg("address"), py::arg("bytes"),
        "Advise the system to use huge pages for fresh memory of the CPU.");
  m.def("build_info", &build_info,
        "Version, torch built against, compiler, and GPU architectures of the CUDA kernels or None.");
}
