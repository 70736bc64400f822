/* Dropout. fp32, or with -DBF16=1 bf16 with fp32 arithmetic. */

#include "dropout.h"

#define SMALL 32768 /* numbers; for fewer it does not pay to wake other threads */

void dropout(const number *x, number *out, long count, const dropout_spec *given) {
    const dropout_spec drop = *given; /* a copy, which the compiler knows no store to change */
    const long groups = (count + GROUP - 1) / GROUP;
#pragma omp parallel for num_threads(drop.threads) if (count > SMALL) schedule(static)
    for (long group = 0; group < groups; group++) {
        const number *from = x + group * GROUP;
        number *to = out + group * GROUP;
        float factor[GROUP];
        keep_factors(group, drop, factor);
        if ((group + 1) * GROUP <= count) {
#pragma omp simd
            for (int i = 0; i < GROUP; i++) to[i] = to_number(to_float(from[i]) * factor[i]);
        } else
            for (int i = 0; i < count - group * GROUP; i++) to[i] = to_number(to_float(from[i]) * factor[i]);
    }
}
