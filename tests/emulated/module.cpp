// The Python module of the emulated GPU: what its kernels did. Its ops register with torch when this library is loaded.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <utility>

#include "emulate.h"

namespace py = pybind11;

namespace {

py::dict traffic() {
  const gk::cuda::Traffic traffic = std::exchange(gk::cuda::traffic(), {});
  return py::dict(py::arg("launches") = traffic.launches, py::arg("read") = traffic.read,
                  py::arg("written") = traffic.written);
}

}  // namespace

PYBIND11_MODULE(growkernels_emulated, m) {
  m.doc() = "The CUDA kernels of growkernels, run by the CPU.";
  m.def("traffic", &traffic,
        "Names of the kernels launched on this thread since the last call, and bytes of tensors that they read and "
        "wrote.");
}
