/* The sums for one type of element, included by iebn.c: over space, and over the batch. */

static struct iebn OF_TYPE(named)(const struct iebn_call *call) {
    long planes = call->n * call->c, c = call->c;
    REAL *kept = call->kept, *room = call->room;
    double *sums = call->sums;
    return (struct iebn){
        .call = *call, .n = call->n, .c = c, .l = call->l, .rows = call->rows, .threads = call->threads,
        .gap = kept, .about = kept + planes, .off = kept + planes + c, .rstd = kept + planes + 2 * c,
        .first = room, .second = room + planes, .gate = room + 2 * planes, .on_x = room + 3 * planes,
        .constant = room + 3 * planes + c, .mean = sums, .squares = sums + c, .average = sums + 2 * c,
        .slope = sums + 3 * c,
    };
}

/* What is added up of a plane: e and e * (x - about), see below. */
static inline __attribute__((always_inline)) void OF_TYPE(multiply)(
    const T *restrict x, const T *restrict g, REAL centre, long l, enum sums of, REAL *restrict u, REAL *restrict v) {
    _Pragma("omp simd")
    for (long i = 0; i < l; i++) {
        REAL d = LOAD(x[i]) - centre, e = of == PRODUCTS ? LOAD(g[i]) : d;
        u[i] = e;
        if (of != MEANS)
            v[i] = e * d;
    }
}

/* The same of a plane of more than LANES, as LANES sums of each. */
static inline __attribute__((always_inline)) void OF_TYPE(fold)(
    const T *restrict x, const T *restrict g, REAL centre, long l, enum sums of, REAL *restrict u, REAL *restrict v) {
    REAL a[LANES] = {0}, b[LANES] = {0};
    long i = 0;
    for (; i + LANES <= l; i += LANES) {
        _Pragma("omp simd")
        for (long j = 0; j < LANES; j++) {
            REAL d = LOAD(x[i + j]) - centre, e = of == PRODUCTS ? LOAD(g[i + j]) : d;
            a[j] += e;
            b[j] += of == MEANS ? 0 : e * d;
        }
    }
    for (long j = 0; i + j < l; j++) {
        REAL d = LOAD(x[i + j]) - centre, e = of == PRODUCTS ? LOAD(g[i + j]) : d;
        a[j] += e;
        b[j] += of == MEANS ? 0 : e * d;
    }
    memcpy(u, a, sizeof a);
    memcpy(v, b, sizeof b);
}

/* The sums of pairs that stand side by side. */
static inline __attribute__((always_inline)) void OF_TYPE(halve)(const REAL *restrict of, REAL *restrict to, long left) {
    _Pragma("omp simd")
    for (long i = 0; i < left; i++)
        to[i] = of[2 * i] + of[2 * i + 1];
}

/* The sums over space of e and of e * (x - about). What e is stands fast where this is put in: x - about itself, the
   gradient g, or x - about with no second sum wanted. */
static inline __attribute__((always_inline)) void OF_TYPE(add)(const struct iebn *s, long from, long to, enum sums of) {
    const T *restrict x = s->call.x, *restrict g = s->call.g;
    const REAL *restrict about = s->about;
    REAL *restrict first = s->first, *restrict second = s->second;
    long c = s->c, l = s->l;
    if (!s->rows && l <= EXACT && (l >= LANES || (l & (l - 1)) == 0)) {
        long lanes = l < LANES ? l : LANES;
        for (long p = from, channel = from % c; p < to; p += WIDE) {
            long width = to - p < WIDE ? to - p : WIDE;
            REAL all[4][WIDE * LANES], *u = all[0], *v = all[1], *half_u = all[2], *half_v = all[3], *other;
            for (long k = 0; k < width; k++, channel = channel + 1 < c ? channel + 1 : 0) {
                const T *row = x + (p + k) * l, *beside = g + (p + k) * l;
                if (l == LANES) /* known when this is compiled: no loop is left */
                    OF_TYPE(multiply)(row, beside, about[channel], LANES, of, u + k * LANES, v + k * LANES);
                else if (l < LANES)
                    OF_TYPE(multiply)(row, beside, about[channel], l, of, u + k * l, v + k * l);
                else
                    OF_TYPE(fold)(row, beside, about[channel], l, of, u + k * LANES, v + k * LANES);
            }
            for (long left = width * lanes / 2; left >= width; left /= 2) {
                OF_TYPE(halve)(u, half_u, left);
                other = u, u = half_u, half_u = other;
                if (of != MEANS) {
                    OF_TYPE(halve)(v, half_v, left);
                    other = v, v = half_v, half_v = other;
                }
            }
            memcpy(first + p, u, width * sizeof(REAL));
            if (of != MEANS)
                memcpy(second + p, v, width * sizeof(REAL));
        }
        return;
    }
    if (!s->rows && l < LANES && of != PRODUCTS) {
        for (long p = from, channel = from % c; p < to; p += WIDE) {
            long width = to - p < WIDE ? to - p : WIDE;
            REAL u[WIDE] = {0}, v[WIDE] = {0}, centre[WIDE];
            for (long k = 0; k < width; k++, channel = channel + 1 < c ? channel + 1 : 0)
                centre[k] = about[channel];
            for (long i = 0; i < l; i++) {
                _Pragma("omp simd")
                for (long k = 0; k < width; k++) {
                    REAL d = LOAD(x[(p + k) * l + i]) - centre[k];
                    u[k] += d;
                    v[k] += of == MEANS ? 0 : d * d;
                }
            }
            memcpy(first + p, u, width * sizeof(REAL));
            if (of != MEANS)
                memcpy(second + p, v, width * sizeof(REAL));
        }
        return;
    }
    if (!s->rows) {
        for (long p = from, k = from % c; p < to; p++, k = k + 1 < c ? k + 1 : 0) {
            REAL centre = about[k];
            double u = 0, v = 0;
            for (long start = 0; start < l; start += EXACT) {
                long end = start + EXACT < l ? start + EXACT : l;
                REAL a = 0, b = 0;
                _Pragma("omp simd reduction(+ : a, b)")
                for (long i = p * l + start; i < p * l + end; i++) {
                    REAL d = LOAD(x[i]) - centre, e = of == PRODUCTS ? LOAD(g[i]) : d;
                    a += e;
                    b += of == MEANS ? 0 : e * d;
                }
                u += a;
                v += b;
            }
            first[p] = u;
            if (of != MEANS)
                second[p] = v;
        }
        return;
    }
    double *total = malloc(2 * c * sizeof(double));
    for (long n = from; n < to; n++) {
        REAL *restrict a = first + n * c, *restrict b = second + n * c;
        double *restrict u = total, *restrict v = total + c;
        if (l > EXACT)
            memset(total, 0, 2 * c * sizeof(double));
        for (long start = 0; start < l; start += EXACT) {
            long end = start + EXACT < l ? start + EXACT : l;
            memset(a, 0, c * sizeof(REAL));
            memset(b, 0, c * sizeof(REAL));
            for (long i = start, next; i < end; i = next) {
                next = i + 4 <= end ? i + 4 : i + 1; /* four rows at a time: the sums are read and written once */
                long r = (n * l + i) * c;
                if (next - i == 4) {
                    _Pragma("omp simd")
                    for (long k = 0; k < c; k++) {
                        REAL m = about[k], d0 = LOAD(x[r + k]) - m, d1 = LOAD(x[r + c + k]) - m;
                        REAL d2 = LOAD(x[r + 2 * c + k]) - m, d3 = LOAD(x[r + 3 * c + k]) - m;
                        REAL e0 = of == PRODUCTS ? LOAD(g[r + k]) : d0, e1 = of == PRODUCTS ? LOAD(g[r + c + k]) : d1;
                        REAL e2 = of == PRODUCTS ? LOAD(g[r + 2 * c + k]) : d2;
                        REAL e3 = of == PRODUCTS ? LOAD(g[r + 3 * c + k]) : d3;
                        a[k] += (e0 + e1) + (e2 + e3);
                        if (of != MEANS)
                            b[k] += (e0 * d0 + e1 * d1) + (e2 * d2 + e3 * d3);
                    }
                } else {
                    _Pragma("omp simd")
                    for (long k = 0; k < c; k++) {
                        REAL d = LOAD(x[r + k]) - about[k], e = of == PRODUCTS ? LOAD(g[r + k]) : d;
                        a[k] += e;
                        if (of != MEANS)
                            b[k] += e * d;
                    }
                }
            }
            for (long k = 0; k < c && l > EXACT; k++) {
                u[k] += a[k];
                v[k] += b[k];
            }
        }
        for (long k = 0; k < c && l > EXACT; k++) {
            a[k] = u[k];
            b[k] = v[k];
        }
    }
    free(total);
}

CLONED static void OF_TYPE(add_squares)(const void *data, long from, long to) { OF_TYPE(add)(data, from, to, SQUARES); }
CLONED static void OF_TYPE(add_products)(const void *data, long from, long to) { OF_TYPE(add)(data, from, to, PRODUCTS); }

/* The mean of each channel in the first sample: near enough to the batch's for squares about it not to cancel. */
CLONED static void OF_TYPE(find_about)(const struct iebn *s) {
    const T *restrict x = s->call.x;
    REAL *restrict about = s->about;
    long c = s->c, l = s->l;
    if (!s->rows) {
        for (long k = 0; k < c; k++) {
            double u = 0;
            for (long start = 0; start < l; start += EXACT) {
                long end = start + EXACT < l ? start + EXACT : l;
                REAL a = 0;
                _Pragma("omp simd reduction(+ : a)")
                for (long i = k * l + start; i < k * l + end; i++)
                    a += LOAD(x[i]);
                u += a;
            }
            about[k] = u / l;
        }
        return;
    }
    memset(about, 0, c * sizeof(REAL));
    for (long i = 0; i < l; i++) {
        _Pragma("omp simd")
        for (long k = 0; k < c; k++)
            about[k] += LOAD(x[i * c + k]);
    }
    for (long k = 0; k < c; k++)
        about[k] /= l;
}

/* The batch's mean and squares about it, from the planes' sums; for a range of channels. */
CLONED static void OF_TYPE(join)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict about = s->about;
    double *restrict mean = s->mean, *restrict squares = s->squares, count = (double)s->n * s->l;
    for (long k = from; k < to; k++)
        mean[k] = squares[k] = 0;
    for (long n = 0; n < s->n; n++) {
        const REAL *restrict first = (REAL *)s->first + n * s->c, *restrict second = (REAL *)s->second + n * s->c;
        _Pragma("omp simd")
        for (long k = from; k < to; k++) {
            mean[k] += first[k];
            squares[k] += second[k];
        }
    }
    for (long k = from; k < to && count > 0; k++) {
        double rest = squares[k] - mean[k] * mean[k] / count;
        squares[k] = rest < 0 ? 0 : rest;
        mean[k] = about[k] + mean[k] / count;
    }
}

/* The parameters' gradients, and the batch's sums of the normalised output's gradients; for a range of channels. */
CLONED static void OF_TYPE(learn)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict off = s->off, *restrict rstd = s->rstd, *restrict weight = s->call.weight;
    const REAL *restrict readjust = (REAL *)s->call.weight_readjust + from;
    const REAL *restrict start = (REAL *)s->call.bias_readjust + from;
    REAL *restrict on_weight = s->call.on_weight, *restrict on_bias = s->call.on_bias;
    REAL *restrict on_by = s->call.on_weight_readjust, *restrict on_plus = s->call.on_bias_readjust;
    double *restrict average = s->average, *restrict slope = s->slope;
    long width = to - from;
    double *total = malloc(5 * width * (sizeof(double) + sizeof(REAL)));
    REAL *part = (REAL *)(total + 5 * width);
    memset(total, 0, 5 * width * sizeof(double));
    for (long block = 0; block < s->n; block += EXACT) {
        REAL *restrict slopes = part, *restrict by = part + width, *restrict plus = part + 2 * width;
        REAL *restrict averages = part + 3 * width, *restrict all = part + 4 * width;
        memset(part, 0, 5 * width * sizeof(REAL));
        for (long n = block; n < s->n && n < block + EXACT; n++) {
            long at = n * s->c + from;
            const REAL *restrict first = (REAL *)s->first + at, *restrict gap = (REAL *)s->gap + at;
            const REAL *restrict offs = off + from;
            REAL *restrict gate = (REAL *)s->gate + at, *restrict second = (REAL *)s->second + at;
            _Pragma("omp simd")
            for (long k = 0; k < width; k++) {
                gate[k] = 1 / (1 + EXP(-(readjust[k] * gap[k] + start[k])));
                REAL product = (second[k] - offs[k] * first[k]) * gate[k], on_gate = product * (1 - gate[k]);
                second[k] = on_gate;
                slopes[k] += product;
                by[k] += on_gate * gap[k];
                plus[k] += on_gate;
                averages[k] += gate[k] * first[k];
                all[k] += first[k];
            }
        }
        for (long k = 0; k < 5 * width; k++)
            total[k] += part[k];
    }
    const double *slopes = total, *by = total + width, *plus = total + 2 * width;
    const double *averages = total + 3 * width, *all = total + 4 * width;
    for (long k = from, i = 0; k < to; k++, i++) {
        double factor = weight ? (double)weight[k] * rstd[k] : rstd[k];
        slope[k] = slopes[i];
        average[k] = averages[i];
        on_weight[k] = slopes[i] * rstd[k];
        on_bias[k] = all[i];
        on_by[k] = by[i] * factor;
        on_plus[k] = plus[i] * factor;
    }
    free(total);
}
