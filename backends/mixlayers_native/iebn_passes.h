/* The passes for one type of element, included by iebn.c. */

static struct iebn OF_TYPE(named)(const struct iebn_call *call) {
    long planes = call->n * call->c, c = call->c;
    REAL *kept = call->kept, *room = call->room;
    double *sums = call->sums;
    return (struct iebn){
        .call = *call, .n = call->n, .c = c, .l = call->l, .rows = call->rows, .threads = call->threads,
        .gap = kept, .gate = kept + planes, .about = kept + 2 * planes, .off = kept + 2 * planes + c,
        .rstd = kept + 2 * planes + 2 * c, .first = room, .second = room + planes, .on_x = room + 2 * planes,
        .constant = room + 2 * planes + c, .mean = sums, .squares = sums + c, .average = sums + 2 * c,
        .slope = sums + 3 * c,
    };
}

/* The sums over space of e and of e * (x - about), where e is x - about itself, or the gradient g. */
CLONED static void OF_TYPE(add_up)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const T *restrict x = s->call.x, *restrict g = s->call.g;
    const REAL *restrict about = s->about;
    REAL *restrict first = s->first, *restrict second = s->second;
    long c = s->c, l = s->l;
    if (!s->rows) {
        for (long p = from; p < to; p++) {
            REAL centre = about[p % c];
            double u = 0, v = 0;
            for (long start = 0; start < l; start += EXACT) {
                long end = start + EXACT < l ? start + EXACT : l;
                REAL a = 0, b = 0;
                if (g) {
                    _Pragma("omp simd reduction(+ : a, b)")
                    for (long i = p * l + start; i < p * l + end; i++) {
                        REAL e = LOAD(g[i]);
                        a += e;
                        b += e * (LOAD(x[i]) - centre);
                    }
                } else {
                    _Pragma("omp simd reduction(+ : a, b)")
                    for (long i = p * l + start; i < p * l + end; i++) {
                        REAL e = LOAD(x[i]) - centre;
                        a += e;
                        b += e * e;
                    }
                }
                u += a;
                v += b;
            }
            first[p] = u;
            second[p] = v;
        }
        return;
    }
    double *total = malloc(2 * c * sizeof(double));
    for (long n = from; n < to; n++) {
        REAL *restrict a = first + n * c, *restrict b = second + n * c;
        double *restrict u = total, *restrict v = total + c;
        memset(total, 0, 2 * c * sizeof(double));
        for (long start = 0; start < l; start += EXACT) {
            long end = start + EXACT < l ? start + EXACT : l;
            memset(a, 0, c * sizeof(REAL));
            memset(b, 0, c * sizeof(REAL));
            for (long i = start, next; i < end; i = next) {
                next = i + 4 <= end ? i + 4 : i + 1; /* four rows at a time: the sums are read and written once */
                const T *restrict row = x + (n * l + i) * c;
                const T *restrict other = g ? g + (n * l + i) * c : 0;
                if (next - i == 4 && g) {
                    _Pragma("omp simd")
                    for (long k = 0; k < c; k++) {
                        REAL e0 = LOAD(other[k]), e1 = LOAD(other[k + c]), e2 = LOAD(other[k + 2 * c]);
                        REAL e3 = LOAD(other[k + 3 * c]), m = about[k];
                        a[k] += (e0 + e1) + (e2 + e3);
                        b[k] += (e0 * (LOAD(row[k]) - m) + e1 * (LOAD(row[k + c]) - m)) +
                                (e2 * (LOAD(row[k + 2 * c]) - m) + e3 * (LOAD(row[k + 3 * c]) - m));
                    }
                } else if (next - i == 4) {
                    _Pragma("omp simd")
                    for (long k = 0; k < c; k++) {
                        REAL m = about[k], e0 = LOAD(row[k]) - m, e1 = LOAD(row[k + c]) - m;
                        REAL e2 = LOAD(row[k + 2 * c]) - m, e3 = LOAD(row[k + 3 * c]) - m;
                        a[k] += (e0 + e1) + (e2 + e3);
                        b[k] += (e0 * e0 + e1 * e1) + (e2 * e2 + e3 * e3);
                    }
                } else {
                    _Pragma("omp simd")
                    for (long k = 0; k < c; k++) {
                        REAL d = LOAD(row[k]) - about[k], e = g ? LOAD(other[k]) : d;
                        a[k] += e;
                        b[k] += e * d;
                    }
                }
            }
            for (long k = 0; k < c; k++) {
                u[k] += a[k];
                v[k] += b[k];
            }
        }
        for (long k = 0; k < c; k++) {
            a[k] = u[k];
            b[k] = v[k];
        }
    }
    free(total);
}

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

/* The attention, and with it what each plane is multiplied by and gets added; for a range of samples. */
CLONED static void OF_TYPE(attend)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict about = s->about, *restrict off = s->off, *restrict rstd = s->rstd;
    const REAL *restrict weight = s->call.weight, *restrict bias = s->call.bias;
    const REAL *restrict by = s->call.weight_readjust, *restrict plus = s->call.bias_readjust;
    long c = s->c;
    for (long n = from; n < to; n++) {
        REAL *restrict gap = (REAL *)s->gap + n * c, *restrict gate = (REAL *)s->gate + n * c;
        REAL *restrict scale = (REAL *)s->first + n * c, *restrict shift = (REAL *)s->second + n * c;
        _Pragma("omp simd")
        for (long k = 0; k < c; k++) {
            gap[k] = about[k] + scale[k] / s->l;
            gate[k] = 1 / (1 + EXP(-(by[k] * gap[k] + plus[k])));
            scale[k] = gate[k] * (weight ? weight[k] * rstd[k] : rstd[k]);
            shift[k] = (bias ? bias[k] : 0) - scale[k] * off[k];
        }
    }
}

/* y = scale * (x - about) + shift */
CLONED static void OF_TYPE(map)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const T *restrict x = s->call.x;
    T *restrict y = s->call.y;
    const REAL *restrict about = s->about, *restrict scales = s->first, *restrict shifts = s->second;
    long c = s->c, l = s->l;
    if (!s->rows) {
        for (long p = from; p < to; p++) {
            REAL centre = about[p % c], scale = scales[p], shift = shifts[p];
            _Pragma("omp simd")
            for (long i = p * l; i < (p + 1) * l; i++)
                y[i] = STORE((LOAD(x[i]) - centre) * scale + shift);
        }
        return;
    }
    for (long i = from; i < to; i++) {
        const T *restrict row = x + i * c;
        T *restrict out = y + i * c;
        const REAL *restrict scale = scales + i / l * c, *restrict shift = shifts + i / l * c;
        _Pragma("omp simd")
        for (long k = 0; k < c; k++)
            out[k] = STORE((LOAD(row[k]) - about[k]) * scale[k] + shift[k]);
    }
}

/* The parameters' gradients, and the batch's sums of the normalised output's gradients; for a range of channels. */
CLONED static void OF_TYPE(learn)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict off = s->off, *restrict rstd = s->rstd, *restrict weight = s->call.weight;
    REAL *restrict on_weight = s->call.on_weight, *restrict on_bias = s->call.on_bias;
    REAL *restrict on_by = s->call.on_weight_readjust, *restrict on_plus = s->call.on_bias_readjust;
    double *restrict average = s->average, *restrict slope = s->slope;
    double *restrict by = s->mean, *restrict plus = s->squares; /* no longer needed: room */
    double *restrict total = malloc((to - from) * sizeof(double));
    total -= from;
    for (long k = from; k < to; k++)
        average[k] = slope[k] = by[k] = plus[k] = total[k] = 0;
    for (long n = 0; n < s->n; n++) {
        const REAL *restrict first = (REAL *)s->first + n * s->c, *restrict gap = (REAL *)s->gap + n * s->c;
        const REAL *restrict gate = (REAL *)s->gate + n * s->c;
        REAL *restrict second = (REAL *)s->second + n * s->c;
        _Pragma("omp simd")
        for (long k = from; k < to; k++) {
            REAL product = (second[k] - off[k] * first[k]) * gate[k], on_gate = product * (1 - gate[k]);
            second[k] = on_gate;
            slope[k] += product;
            by[k] += on_gate * gap[k];
            plus[k] += on_gate;
            average[k] += gate[k] * first[k];
            total[k] += first[k];
        }
    }
    for (long k = from; k < to; k++) {
        double factor = weight ? (double)weight[k] * rstd[k] : rstd[k];
        on_weight[k] = slope[k] * rstd[k];
        on_bias[k] = total[k];
        on_by[k] = by[k] * factor;
        on_plus[k] = plus[k] * factor;
    }
    free(total + from);
}

/* What each plane's gradient is multiplied by and gets added; for a range of samples. */
CLONED static void OF_TYPE(trace)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict rstd = s->rstd, *restrict weight = s->call.weight, *restrict by = s->call.weight_readjust;
    const REAL *restrict constant = s->constant;
    long c = s->c;
    for (long n = from; n < to; n++) {
        const REAL *restrict gate = (REAL *)s->gate + n * c;
        REAL *restrict scale = (REAL *)s->first + n * c, *restrict shift = (REAL *)s->second + n * c;
        _Pragma("omp simd")
        for (long k = 0; k < c; k++) {
            REAL factor = weight ? weight[k] * rstd[k] : rstd[k];
            scale[k] = gate[k] * factor;
            shift[k] = shift[k] * (factor * by[k] / s->l) + constant[k];
        }
    }
}

/* dx = scale * g + on_x * (x - about) + shift */
CLONED static void OF_TYPE(combine)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const T *restrict x = s->call.x, *restrict g = s->call.g;
    T *restrict y = s->call.y;
    const REAL *restrict about = s->about, *restrict on_x = s->on_x;
    const REAL *restrict scales = s->first, *restrict shifts = s->second;
    long c = s->c, l = s->l;
    if (!s->rows) {
        for (long p = from; p < to; p++) {
            REAL centre = about[p % c], slope = on_x[p % c], scale = scales[p], shift = shifts[p];
            _Pragma("omp simd")
            for (long i = p * l; i < (p + 1) * l; i++)
                y[i] = STORE(scale * LOAD(g[i]) + slope * (LOAD(x[i]) - centre) + shift);
        }
        return;
    }
    for (long i = from; i < to; i++) {
        const T *restrict row = x + i * c, *restrict other = g + i * c;
        T *restrict out = y + i * c;
        const REAL *restrict scale = scales + i / l * c, *restrict shift = shifts + i / l * c;
        _Pragma("omp simd")
        for (long k = 0; k < c; k++)
            out[k] = STORE(scale[k] * LOAD(other[k]) + on_x[k] * (LOAD(row[k]) - about[k]) + shift[k]);
    }
}

/* With the running statistics, for nobody to differentiate: some planes are mapped while the cache still holds them. */
CLONED static void OF_TYPE(infer)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict about = s->about, *restrict rstd = s->rstd;
    const REAL *restrict by = s->call.weight_readjust, *restrict plus = s->call.bias_readjust;
    const REAL *restrict weight = s->call.weight, *restrict bias = s->call.bias;
    REAL *restrict scale = s->first, *restrict shift = s->second;
    long c = s->c, l = s->l, most = s->rows || l > CACHED ? 1 : CACHED / l;
    for (long item = from, next; item < to; item = next) { /* of samples, or of planes */
        next = s->rows ? item + 1 : item - item % c + c; /* up to the sample's end */
        next = !s->rows && next - item > most ? item + most : next;
        next = next < to ? next : to;
        OF_TYPE(add_up)(s, item, next);
        long start = s->rows ? 0 : item % c, width = s->rows ? c : next - item, n = s->rows ? item * c : item - start;
        _Pragma("omp simd")
        for (long k = start; k < start + width; k++) {
            REAL gap = about[k] + scale[n + k] / l;
            scale[n + k] = (weight ? weight[k] * rstd[k] : rstd[k]) / (1 + EXP(-(by[k] * gap + plus[k])));
            shift[n + k] = bias ? bias[k] : 0;
        }
        OF_TYPE(map)(s, s->rows ? item * l : item, s->rows ? next * l : next);
    }
}

/* What to normalise with, from the mean and the squares, which several processes may have joined; updates the running
   statistics. */
static void OF_TYPE(settle)(const struct iebn *s) {
    REAL *about = s->about, *off = s->off, *rstd = s->rstd;
    REAL *running_mean = (REAL *)s->call.running_mean, *running_var = (REAL *)s->call.running_var;
    for (long k = 0; k < s->c; k++) {
        if (!s->call.batch) {
            about[k] = running_mean[k];
            off[k] = 0;
            rstd[k] = 1 / sqrt((double)running_var[k] + s->call.eps);
            continue;
        }
        off[k] = s->mean[k] - about[k];
        rstd[k] = 1 / sqrt(s->squares[k] / (s->call.count > 0 ? s->call.count : 1) + s->call.eps);
        if (running_mean && s->call.count > 0) {
            running_mean[k] += s->call.factor * (s->mean[k] - running_mean[k]);
            running_var[k] += s->call.factor * (s->squares[k] / (s->call.count > 1 ? s->call.count - 1 : 1) - running_var[k]);
        }
    }
}

#define PLANES (s->rows ? s->n : s->n * s->c)
#define LINES (s->rows ? s->n * s->l : s->n * s->c)
#define ELEMENTS (s->n * s->c * s->l)

/* The forward's first half: the planes' sums, and with count the batch's mean and squares. */
void OF_TYPE(iebn_sums)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    if (call->batch && s->n > 0)
        OF_TYPE(find_about)(s);
    else if (call->batch)
        memset(s->about, 0, s->c * sizeof(REAL));
    else
        memcpy(s->about, call->running_mean, s->c * sizeof(REAL));
    parallel(OF_TYPE(add_up), s, PLANES, ELEMENTS, s->threads);
    if (call->batch)
        parallel(OF_TYPE(join), s, s->c, s->n * s->c, s->threads);
}

/* Its second half, given the mean and squares: the output. */
void OF_TYPE(iebn_map)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    OF_TYPE(settle)(s);
    parallel(OF_TYPE(attend), s, s->n, s->n * s->c, s->threads);
    parallel(OF_TYPE(map), s, LINES, ELEMENTS, s->threads);
}

/* The output with the running statistics, and nothing else. */
void OF_TYPE(iebn_infer)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    OF_TYPE(settle)(s);
    parallel(OF_TYPE(infer), s, PLANES, ELEMENTS, s->threads);
}

/* The backward's first half: the parameters' gradients, and the batch's sums. */
void OF_TYPE(iebn_products)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    parallel(OF_TYPE(add_up), s, PLANES, ELEMENTS, s->threads);
    parallel(OF_TYPE(learn), s, s->c, s->n * s->c, s->threads);
}

/* Its second half, given those sums: the gradient of x. */
void OF_TYPE(iebn_combine)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    const REAL *off = s->off, *rstd = s->rstd, *weight = s->call.weight;
    REAL *on_x = s->on_x, *constant = s->constant;
    for (long k = 0; k < s->c; k++) {
        double factor = (weight ? (double)weight[k] * rstd[k] : rstd[k]) / (s->call.count > 0 ? s->call.count : 1);
        double slope = call->batch ? -factor * rstd[k] * rstd[k] * s->slope[k] : 0;
        on_x[k] = slope;
        constant[k] = call->batch ? -factor * s->average[k] - slope * off[k] : 0;
    }
    parallel(OF_TYPE(trace), s, s->n, s->n * s->c, s->threads);
    parallel(OF_TYPE(combine), s, LINES, ELEMENTS, s->threads);
}

#undef PLANES
#undef LINES
#undef ELEMENTS
