/* IEBN's and RBN's passes over memory, for any framework's arrays on the CPU: float32, bfloat16, float64.

   A feature is (n, c, l) in memory, planes, or (n, l, c), rows, which is "channels last"; l is the space. Vectors a
   sample and channel are (n, c), a channel (c). Each pass stands once, in iebn_sums.h or iebn_maps.h, and RBN's numbers
   a plane in rbn.h, which are included for each type of element: they are read and written as T, and computed in REAL.
   Nothing of the size of x is allocated. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* So many are added in REAL, which is exact to a few roundings; sums of more are added up in double. */
#define EXACT 512

/* Planes of up to EXACT elements are added up side by side, WIDE at a time, each as LANES sums that are then halved. */
#define LANES 16
#define WIDE 32

/* Passes over fewer elements are not worth a second thread. */
#define SMALL 16384

/* So many elements are worked on at a time where a second pass should find them in the nearest cache: 16 KB of floats. */
#define CACHED 4096

/* One library for processors with and without wide vectors; the build turns it off where it is not known. */
#ifdef CLONES
#define CLONED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONED
#endif

/* The threads are the framework's own: those of the OpenMP library that it has loaded for all. Without one there is
   one thread. */
extern void GOMP_parallel(void (*member)(void *), void *data, unsigned threads, unsigned flags) __attribute__((weak));
extern int omp_get_num_threads(void) __attribute__((weak));
extern int omp_get_thread_num(void) __attribute__((weak));

typedef void (*work)(const void *data, long first, long last);

struct team {
    work work;
    const void *data;
    long count;
};

static void member(void *given) {
    struct team *team = given;
    long all = omp_get_num_threads(), own = omp_get_thread_num();
    team->work(team->data, team->count * own / all, team->count * (own + 1) / all);
}

/* Have the items 0 to count worked on by the threads, each its own range. */
static void parallel(work work, const void *data, long count, long elements, int threads) {
    struct team team = {work, data, count};
    if (threads > 1 && count > 1 && elements >= SMALL && GOMP_parallel && omp_get_num_threads && omp_get_thread_num)
        GOMP_parallel(member, &team, threads, 0);
    else
        work(data, 0, count);
}

/* What the caller gives: addresses, and 0 for what there is none of. REAL is float, or double for float64. */
struct iebn_call {
    long n, c, l;
    int rows, threads, batch; /* batch: whether its own statistics normalise */
    const void *x, *g;                                           /* elements of T: the input, the output's gradient */
    void *y;                                                     /* elements of T: the output, or x's gradient */
    const void *weight, *bias, *weight_readjust, *bias_readjust; /* (c), REAL; weight and bias may be 0 */
    const void *weight_recenter;                                 /* (c), REAL: RBN's; or 0 */
    const void *running_mean, *running_var;                      /* (c), REAL, written to in the forward; or 0 */
    void *kept;                                                  /* (n, c) and 3 (c), REAL: for the backward */
    void *room;                                                  /* 3 (n, c) and 2 (c), REAL */
    double *sums;                                                /* (4, c): to be joined with other processes' */
    void *on_weight, *on_bias, *on_weight_readjust, *on_bias_readjust, *on_weight_recenter; /* (c), REAL: gradients */
    double count, eps, factor; /* count: of values a channel, of all processes' once they are joined */
    double correction;         /* taken from it in the running variance */
};

/* The same for the passes, which find the vectors of kept, room and sums here by name. */
struct iebn {
    struct iebn_call call;
    long n, c, l;
    int rows, threads;
    void *gap, *gate;          /* (n, c): the mean over space, the attention */
    void *about, *off, *rstd;  /* (c): the mean is about + off; RBN's off is in rbn.h */
    void *first, *second;      /* (n, c): sums over space, then what planes are multiplied by and get added */
    void *on_x, *constant;     /* (c) */
    double *mean, *squares;    /* (c): the batch's, in the forward */
    double *average, *slope;   /* (c): the batch's sums, in the backward */
};

/* What is added up in a pass over x. */
enum sums { SQUARES, PRODUCTS, MEANS };

/* exp(z), to two units of the last place; vectors of it, which the C library's own does not make. */
static inline float exp_float(float z) {
    z = z > 88.0f ? 88.0f : z; /* a NaN is neither and stays */
    z = z < -87.0f ? -87.0f : z;
    float n = rintf(z * 1.44269504f), r = z - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 4.16666667e-2f + r * (8.33333333e-3f + r * 1.38888889e-3f); /* Taylor's, r being at most ln(2) / 2 */
    p = 1.0f + r * (1.0f + r * (0.5f + r * (1.66666667e-1f + r * p)));
    union { int32_t bits; float value; } power = {((int32_t)n + 127) << 23};
    return p * power.value;
}

static inline double exp_double(double z) { return exp(z); }

static inline float from_bf16(uint16_t v) {
    union { uint32_t bits; float value; } wide = {(uint32_t)v << 16};
    return wide.value;
}

static inline uint16_t to_bf16(float v) {
    union { float value; uint32_t bits; } wide = {v};
    uint32_t even = (wide.bits + 0x7fff + (wide.bits >> 16 & 1)) >> 16;
    return v != v ? 0x7fc0 : even;
}

#define JOINED(a, b) a##_##b
#define JOIN(a, b) JOINED(a, b)
#define OF_TYPE(name) JOIN(name, TYPE)

/* How many items a pass has, and how many elements they are in all. */
#define PLANES (s->rows ? s->n : s->n * s->c)
#define LINES (s->rows ? s->n * s->l : s->n * s->c)
#define ELEMENTS (s->n * s->c * s->l)

#define TYPE float32
#define T float
#define REAL float
#define LOAD(v) (v)
#define STORE(v) (v)
#define EXP exp_float
#include "iebn_sums.h"
#include "iebn_maps.h"
#include "rbn.h"

#undef TYPE
#undef T
#undef LOAD
#undef STORE
#define TYPE bfloat16
#define T uint16_t
#define LOAD from_bf16
#define STORE to_bf16
#include "iebn_sums.h"
#include "iebn_maps.h"
#include "rbn.h"

#undef TYPE
#undef T
#undef REAL
#undef LOAD
#undef STORE
#undef EXP
#define TYPE float64
#define T double
#define REAL double
#define LOAD(v) (v)
#define STORE(v) (v)
#define EXP exp_double
#include "iebn_sums.h"
#include "iebn_maps.h"
#include "rbn.h"

const char *iebn_source(void) { return SOURCE; }
