/* RBN for one type of element, included by iebn.c after IEBN's passes, which it goes by.

   x' = x + recenter * (the plane's mean of x), a plane being one sample's channel: all that RBN does to a plane is one
   map, and so is all that its gradient does. `gap` holds the plane's mean of x - about, near; x' less its mean is
   x - about + added, where added = recenter * near + off, so that off is (1 + recenter) * about - (the mean of x'). */

/* The mean of x' and the squares about it, given those of x; for a range of channels. */
CLONED static void OF_TYPE(recenter)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict about = s->about, *restrict recenter = s->call.weight_recenter;
    double *restrict mean = s->mean, *restrict squares = s->squares, *restrict between = s->average;
    double l = s->l > 0 ? s->l : 1;
    for (long k = from; k < to; k++)
        between[k] = 0;
    for (long n = 0; n < s->n; n++) {
        const REAL *restrict first = (REAL *)s->first + n * s->c;
        _Pragma("omp simd")
        for (long k = from; k < to; k++) {
            double d = first[k] / l - (mean[k] - about[k]);
            between[k] += d * d;
        }
    }
    for (long k = from; k < to; k++) {
        squares[k] += recenter[k] * (recenter[k] + 2.0) * between[k] * l;
        mean[k] *= 1.0 + recenter[k];
    }
}

/* What each plane is multiplied by and gets added, given its sum; planes of one sample, for a range of channels. */
static inline __attribute__((always_inline)) void OF_TYPE(calibrate)(
    const struct iebn *s, REAL *restrict first, REAL *restrict second, REAL *restrict gap, long from, long to) {
    const REAL *restrict off = s->off, *restrict rstd = s->rstd, *restrict recenter = s->call.weight_recenter;
    const REAL *restrict weight = s->call.weight, *restrict bias = s->call.bias;
    const REAL *restrict by = s->call.weight_readjust, *restrict plus = s->call.bias_readjust;
    REAL l = s->l > 0 ? s->l : 1;
    _Pragma("omp simd")
    for (long k = from; k < to; k++) {
        REAL near = first[k] / l, added = recenter[k] * near + off[k];
        REAL gate = 1 / (1 + EXP(-(by[k] * (rstd[k] * (near + added)) + plus[k])));
        gap[k] = near;
        first[k] = gate * (weight ? weight[k] * rstd[k] : rstd[k]);
        second[k] = (bias ? bias[k] : 0) + first[k] * added;
    }
}

CLONED static void OF_TYPE(calibrate_all)(const void *data, long from, long to) {
    const struct iebn *s = data;
    for (long n = from; n < to; n++) {
        long at = n * s->c;
        OF_TYPE(calibrate)(s, (REAL *)s->first + at, (REAL *)s->second + at, (REAL *)s->gap + at, 0, s->c);
    }
}

/* IEBN's `learn` and, in second, what each plane's mean of x' less its mean gets as its gradient. */
CLONED static void OF_TYPE(learn_recentred)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict off = s->off, *restrict rstd = s->rstd, *restrict recenter = s->call.weight_recenter;
    const REAL *restrict weight = s->call.weight;
    const REAL *restrict by = s->call.weight_readjust, *restrict plus = s->call.bias_readjust;
    REAL *restrict on_weight = s->call.on_weight, *restrict on_bias = s->call.on_bias;
    REAL *restrict on_by = s->call.on_weight_readjust, *restrict on_plus = s->call.on_bias_readjust;
    double *restrict average = s->average, *restrict slope = s->slope;
    long width = to - from;
    double *all = calloc(4 * width, sizeof(double));
    double *restrict gated_sum = all, *restrict total_sum = all + width;
    double *restrict by_sum = all + 2 * width, *restrict plus_sum = all + 3 * width;
    for (long k = from; k < to; k++)
        average[k] = slope[k] = 0;
    for (long n = 0; n < s->n; n++) {
        const REAL *restrict total = (REAL *)s->first + n * s->c, *restrict near = (REAL *)s->gap + n * s->c;
        REAL *restrict gate = (REAL *)s->gate + n * s->c, *restrict second = (REAL *)s->second + n * s->c;
        _Pragma("omp simd")
        for (long k = from; k < to; k++) {
            REAL added = recenter[k] * near[k] + off[k], mean = near[k] + added;
            REAL factor = weight ? weight[k] * rstd[k] : rstd[k];
            gate[k] = 1 / (1 + EXP(-(by[k] * (rstd[k] * mean) + plus[k])));
            REAL gated = gate[k] * (second[k] + added * total[k]), on_z = (1 - gate[k]) * gated * factor;
            REAL on_mean = by[k] * rstd[k] * on_z;
            second[k] = on_mean;
            gated_sum[k - from] += gated;
            total_sum[k - from] += total[k];
            by_sum[k - from] += on_z * mean;
            plus_sum[k - from] += on_z;
            average[k] += gate[k] * factor * total[k] + on_mean;
            slope[k] += factor * gated + on_mean * mean;
        }
    }
    for (long k = from, i = 0; k < to; k++, i++) {
        on_weight[k] = gated_sum[i] * rstd[k];
        on_bias[k] = total_sum[i];
        on_by[k] = by_sum[i] * rstd[k];
        on_plus[k] = plus_sum[i];
        slope[k] *= (double)rstd[k] * rstd[k];
    }
    free(all);
}

/* IEBN's `trace`, and weight_recenter's gradient; for a range of channels. */
CLONED static void OF_TYPE(trace_recentred)(const void *data, long from, long to) {
    const struct iebn *s = data;
    const REAL *restrict off = s->off, *restrict rstd = s->rstd, *restrict about = s->about;
    const REAL *restrict recenter = s->call.weight_recenter, *restrict weight = s->call.weight;
    REAL *restrict on_x = s->on_x, *restrict constant = s->constant, *restrict on_recenter = s->call.on_weight_recenter;
    double *restrict sum = s->average, count = s->call.count > 0 ? s->call.count : 1;
    REAL l = s->l > 0 ? s->l : 1;
    for (long k = from; k < to; k++) {
        on_x[k] = s->call.batch ? -s->slope[k] / count : 0;
        constant[k] = s->call.batch ? -s->average[k] / count : 0;
        sum[k] = 0;
    }
    for (long n = 0; n < s->n; n++) {
        const REAL *restrict gate = (REAL *)s->gate + n * s->c, *restrict near = (REAL *)s->gap + n * s->c;
        REAL *restrict first = (REAL *)s->first + n * s->c, *restrict second = (REAL *)s->second + n * s->c;
        _Pragma("omp simd")
        for (long k = from; k < to; k++) {
            REAL added = recenter[k] * near[k] + off[k], on_mean = second[k];
            REAL scale = gate[k] * (weight ? weight[k] * rstd[k] : rstd[k]);
            REAL on_plane = (scale * first[k] + on_mean) / l + constant[k] + on_x[k] * (near[k] + added);
            first[k] = scale;
            second[k] = on_mean / l + constant[k] + on_x[k] * added + recenter[k] * on_plane;
            sum[k] += (near[k] + about[k]) * on_plane;
        }
    }
    for (long k = from; k < to; k++)
        on_recenter[k] = sum[k] * l;
}

/* IEBN's `infer`. */
CLONED static void OF_TYPE(infer_recentred)(const void *data, long from, long to) {
    const struct iebn *s = data;
    long c = s->c, l = s->l, most = s->rows || l > CACHED ? 1 : CACHED / l;
    for (long item = from, next; item < to; item = next) { /* of samples, or of planes */
        next = s->rows ? item + 1 : item - item % c + c; /* up to the sample's end */
        next = !s->rows && next - item > most ? item + most : next;
        next = next < to ? next : to;
        OF_TYPE(add)(s, item, next, MEANS);
        long start = s->rows ? 0 : item % c, width = s->rows ? c : next - item, at = s->rows ? item * c : item - start;
        REAL *first = (REAL *)s->first + at, *second = (REAL *)s->second + at, *gap = (REAL *)s->gap + at;
        OF_TYPE(calibrate)(s, first, second, gap, start, start + width);
        OF_TYPE(map)(s, s->rows ? item * l : item, s->rows ? next * l : next);
    }
}

/* The steps of a forward and a backward, as IEBN's. */
void OF_TYPE(rbn_sums)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    OF_TYPE(iebn_sums)(call);
    if (call->batch)
        parallel(OF_TYPE(recenter), s, s->c, s->n * s->c, s->threads);
}

void OF_TYPE(rbn_map)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    OF_TYPE(settle)(s);
    parallel(OF_TYPE(calibrate_all), s, s->n, s->n * s->c, s->threads);
    parallel(OF_TYPE(map), s, LINES, ELEMENTS, s->threads);
}

void OF_TYPE(rbn_infer)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    OF_TYPE(settle)(s);
    parallel(OF_TYPE(infer_recentred), s, PLANES, ELEMENTS, s->threads);
}

void OF_TYPE(rbn_products)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    parallel(OF_TYPE(add_products), s, PLANES, ELEMENTS, s->threads);
    parallel(OF_TYPE(learn_recentred), s, s->c, s->n * s->c, s->threads);
}

/* x's gradient where there is room for it, and weight_recenter's in any case. */
void OF_TYPE(rbn_combine)(const struct iebn_call *call) {
    struct iebn named = OF_TYPE(named)(call), *s = &named;
    parallel(OF_TYPE(trace_recentred), s, s->c, s->n * s->c, s->threads);
    if (call->y)
        parallel(OF_TYPE(combine), s, LINES, ELEMENTS, s->threads);
}
