// The inner loops for the build's baseline, which any machine of its architecture runs.
#define GK_ISA scalar
#include "vector_loops.h"
