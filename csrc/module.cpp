// The Python module: what was built, and hooks for tests. The ops themselves register with torch when it is loaded.
//
// Only Python's stable ABI is used, so one build serves every Python from 3.11 on.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string>
#include <utility>

#include "common/philox.h"
#include "cpu/vector.h"
#include "cuda/emulate.h"
#include "pages.h"

namespace {

PyObject* isa(PyObject*, PyObject*) { return PyUnicode_FromString(gk::loops().name); }

PyObject* force_isa(PyObject*, PyObject* args) {
  const char* name = nullptr;
  if (!PyArg_ParseTuple(args, "z:force_isa", &name)) return nullptr;
  if (!gk::force_loops(name)) {
    return PyErr_Format(PyExc_ValueError, "'%s' is not available here; choose 'scalar', 'avx2', 'avx512' or None",
                        name);
  }
  Py_RETURN_NONE;
}

PyObject* philox(PyObject*, PyObject* args) {
  gk::Words c;
  unsigned int k0, k1;
  if (!PyArg_ParseTuple(args, "(IIII)(II):philox", &c.w[0], &c.w[1], &c.w[2], &c.w[3], &k0, &k1)) return nullptr;
  const gk::Words words = gk::philox(c, uint64_t{k1} << 32 | k0);
  return Py_BuildValue("(IIII)", words.w[0], words.w[1], words.w[2], words.w[3]);
}

PyObject* emulated_traffic(PyObject*, PyObject*) {
  const gk::cuda::Traffic traffic = std::exchange(gk::cuda::traffic(), {});
  PyObject* launches = PyList_New(0);
  for (const std::string& name : traffic.launches) {
    PyObject* item = launches ? PyUnicode_FromString(name.c_str()) : nullptr;
    if (!item || PyList_Append(launches, item)) Py_CLEAR(launches);
    Py_XDECREF(item);
  }
  if (!launches) return nullptr;
  return Py_BuildValue("{s:N,s:L,s:L}", "launches", launches, "read", static_cast<long long>(traffic.read), "written",
                       static_cast<long long>(traffic.written));
}

PyObject* ask_for_huge_pages(PyObject*, PyObject* args) {
  unsigned long long data, bytes;
  if (!PyArg_ParseTuple(args, "KK:ask_for_huge_pages", &data, &bytes)) return nullptr;
  gk::ask_for_huge_pages(reinterpret_cast<void*>(data), bytes);
  Py_RETURN_NONE;
}

PyObject* build_info(PyObject*, PyObject*) {
#if defined(GK_CUDA)
  constexpr const char* cuda = GK_CUDA;
#else
  constexpr const char* cuda = nullptr;
#endif
  return Py_BuildValue("{s:s,s:s,s:s,s:z}", "version", GK_VERSION, "torch", GK_TORCH_VERSION, "compiler", __VERSION__,
                       "cuda", cuda);
}

PyMethodDef methods[] = {
    {"isa", isa, METH_NOARGS, "isa() -> str: the instruction set of the CPU kernels in use."},
    {"force_isa", force_isa, METH_VARARGS,
     "force_isa(name) -> None: use 'scalar', 'avx2' or 'avx512', or the widest if None."},
    {"philox", philox, METH_VARARGS, "philox(counter, key) -> tuple: four words from four and two, 7 rounds."},
    {"emulated_traffic", emulated_traffic, METH_NOARGS,
     "emulated_traffic() -> dict: names of the kernels emulated on this thread since the last call, bytes of tensors "
     "that "
     "they read and wrote."},
    {"ask_for_huge_pages", ask_for_huge_pages, METH_VARARGS,
     "ask_for_huge_pages(address, bytes) -> None: for fresh memory of the CPU; only advice."},
    {"build_info", build_info, METH_NOARGS,
     "build_info() -> dict: version, torch built against, compiler, GPU architectures of the CUDA kernels or None."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_C", "Compiled kernels of growkernels.", -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__C(void) { return PyModule_Create(&module); }
