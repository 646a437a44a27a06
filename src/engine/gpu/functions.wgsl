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
