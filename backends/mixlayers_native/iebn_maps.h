/* The maps for one type of element, included by iebn.c after the sums, and what the library shows of both. */

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
        for (long p = from, k = from % c; p < to; p++, k = k + 1 < c ? k + 1 : 0) {
            REAL centre = about[k], scale = scales[p], shift = shifts[p];
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
        for (long p = from, k = from % c; p < to; p++, k = k + 1 < c ? k + 1 : 0) {
            REAL centre = about[k], slope = on_x[k], scale = scales[p], shift = shifts[p];
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
        OF_TYPE(add)(s, item, next, MEANS);
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
    const REAL *recenter = s->call.weight_recenter;
    double count = s->call.count > 0 ? s->call.count : 1, rest = s->call.count - s->call.correction;
    for (long k = 0; k < s->c; k++) {
        double mean, var;
        if (s->call.batch) {
            double squares = s->squares[k] < 0 ? 0 : s->squares[k];
            mean = s->mean[k];
            var = squares / count;
            if (running_mean && s->call.count > 0) {
                running_mean[k] += s->call.factor * (mean - running_mean[k]);
                running_var[k] += s->call.factor * (squares / (rest > 0 ? rest : 1) - running_var[k]);
            }
        } else {
            about[k] = mean = running_mean[k];
            var = running_var[k];
        }
        off[k] = recenter ? (1.0 + recenter[k]) * about[k] - mean : mean - about[k];
        rstd[k] = 1 / sqrt(var + s->call.eps);
    }
}

/* The forward's first half: the planes' sums, and with count the batch's mean and squares. */
void OF_TYPE(iebn_sums)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    if (call->batch && s->n > 0)
        OF_TYPE(find_about)(s);
    else if (call->batch)
        memset(s->about, 0, s->c * sizeof(REAL));
    else
        memcpy(s->about, call->running_mean, s->c * sizeof(REAL));
    parallel(OF_TYPE(add_squares), s, PLANES, ELEMENTS, s->threads);
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
    parallel(OF_TYPE(add_products), s, PLANES, ELEMENTS, s->threads);
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
