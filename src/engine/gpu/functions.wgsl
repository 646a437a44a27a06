// Elementary functions that several kernels share. They stay finite for every finite number, because shaders may not assume
// that infinity works.

// 1 + exp(-x), the reciprocal of the sigmoid. exp(80) is finite; beyond it a quotient by this is below 1e-34 of its dividend
// either way.
fn sigmoid_divisor(x: f32) -> f32 {
    return 1.0 + exp(min(-x, 80.0));
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / sigmoid_divisor(x);
}

// By its series near 0, where the quotient would lose digits, and by exp(-2|x|), which cannot overflow, elsewhere.
fn tanh_of(x: f32) -> f32 {
    let s = x * x;
    let series = x * fma(s, fma(s, fma(s, fma(s, 0.021869488, -0.053968254), 0.13333334), -0.33333334), 1.0);
    let e = exp(-2.0 * min(abs(x), 40.0));
    let tail = sign(x) * (1.0 - e) / (1.0 + e);
    return select(tail, series, abs(x) < 0.25);
}

// exp(x) - 1 for x up to 0: by its series near 0, where the difference would lose digits.
fn expm1_of(x: f32) -> f32 {
    let near = max(x, -0.5);
    let inner = fma(near, fma(near, fma(near, 2.4801587e-5, 1.9841270e-4), 1.3888889e-3), 8.3333333e-3);
    let series = fma(near * near, fma(near, fma(near, fma(near, inner, 4.1666667e-2), 0.16666667), 0.5), near);
    return select(exp(max(x, -80.0)) - 1.0, series, x > -0.5);
}

// log(1 + exp(x)): the larger of x and 0, and log(1 + z) of z = exp(-|x|) as twice the area tangent of z / (2 + z), by its
// series.
fn softplus_of(x: f32) -> f32 {
    let z = exp(-min(abs(x), 80.0));
    let s = z / (2.0 + z);
    let q = s * s;
    let inner = fma(q, fma(q, fma(q, 0.13333333, 0.15384615), 0.18181818), 0.22222222);
    return fma(s, fma(q, fma(q, fma(q, fma(q, inner, 0.28571429), 0.4), 0.66666667), 2.0), max(x, 0.0));
}
