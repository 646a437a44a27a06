// out[t, h] = sum_j softmax_j(scale q[t, h] . k[j, h']) v[j, h'] over the keys j of row t's span, h' = h / (heads / kv_heads).
// Scores may be capped, c tanh(s / c), and a sink may take part in the softmax: a score without key and value.
//
// A workgroup takes QUERIES queries of one key/value head, where a query is a row together with one of the query heads that
// share that head, and walks the keys KEYS at a time:
//   1. scores of QUERIES x KEYS, each invocation 4 x 4 of them, q and k passing through workgroup memory 16 components at a time;
//   2. powers of two of the scores below each query's running reference, and their sum;
//   3. sums of v weighted by them, ACROSS invocations along a head, each four components of several queries.
//
// A row's result must not depend on its neighbours, which decide where the blocks of keys begin. Hence the running reference
// is a whole power of two (not the largest score, as in the usual online softmax, Milakov and Gimelshein 2018): moving it
// scales sums exactly, and since sums run over keys in order, and keys outside a span add exactly nothing, every placing of
// the blocks gives the same bits.
//
// With SPLIT the workgroup takes one part of the keys of one row, and leaves its sums for attention_join.wgsl.

struct Params {
    query_first: u32,
    query_end: u32,
    heads: u32,
    kv_heads: u32,
    scale: f32,
    softcap: f32,
    sinks: u32,
    // With SPLIT: how many parts a row has, workgroups for the heads of a row and the keys of a part at least.
    parts: u32,
    tiles: u32,
    part_keys: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> spans: array<u32>;
@group(0) @binding(5) var<storage, read> sinks: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

const LOG2_E: f32 = 1.4426950408889634;

const STEP: u32 = 16u;
const QUERY_QUADS: u32 = QUERIES / 4u;
const KEY_QUADS: u32 = KEYS / 4u;
const STEP_QUADS: u32 = STEP / 4u;
// Invocations of one query in part 2, and the keys of each.
const SHARERS: u32 = LANES / QUERIES;
const SHARE: u32 = KEYS / SHARERS;
// Queries of one invocation in part 3.
const OWN: u32 = QUERIES * ACROSS / LANES;
// A score that is not there. Finite, because shaders may not assume that infinity works.
const NONE: f32 = -3.0e38;

// [STEP][QUADS], four queries (keys) in each element.
var<workgroup> qs: array<vec4<f32>, STEP * QUERY_QUADS>;
var<workgroup> ks: array<vec4<f32>, STEP * KEY_QUADS>;
// [KEYS][QUERIES]: scores, then their exponentials.
var<workgroup> scores: array<f32, KEYS * QUERIES>;
var<workgroup> tops: array<f32, LANES>;
// Factor on what was summed below the older reference; at the end the sum itself.
var<workgroup> factors: array<f32, QUERIES>;
var<workgroup> starts: array<u32, QUERIES>;
var<workgroup> ends: array<u32, QUERIES>;
var<workgroup> block_at: u32;

// 2^n for whole n <= 0; 0 below the smallest normal number.
fn power_of_two(n: f32) -> f32 {
    return bitcast<f32>(u32(clamp(n, -127.0, 0.0) + 127.0) << 23u);
}

// Which of all rows' heads a query is.
fn query_at(query: u32, kv_head: u32) -> u32 {
    let group = p.heads / p.kv_heads;
    return (query / group) * p.heads + kv_head * group + query % group;
}

// The scaled score, capped if need be, in powers of two. `tanh_of` is in `functions.wgsl`, which precedes this text.
fn capped(product: f32) -> f32 {
    let s = product * p.scale;
    if (p.softcap == 0.0) {
        return s;
    }
    return p.softcap * LOG2_E * tanh_of(s / p.softcap);
}

fn load_q(query: u32, kv_head: u32, d: u32) -> vec4<f32> {
    let at = query_at(min(query, p.query_end - 1u), kv_head) * HEAD_DIM + d;
    if (d + 4u <= HEAD_DIM) {
        return vec4<f32>(q[at], q[at + 1u], q[at + 2u], q[at + 3u]);
    }
    var part = vec4<f32>(0.0);
    for (var i = 0u; d + i < HEAD_DIM; i++) {
        part[i] = q[at + i];
    }
    return part;
}

fn load_k(row: u32, kv_head: u32, d: u32) -> vec4<f32> {
    let at = (row * p.kv_heads + kv_head) * HEAD_DIM + d;
    if (d + 4u <= HEAD_DIM) {
        return vec4<f32>(k[at], k[at + 1u], k[at + 2u], k[at + 3u]);
    }
    var part = vec4<f32>(0.0);
    for (var i = 0u; d + i < HEAD_DIM; i++) {
        part[i] = k[at + i];
    }
    return part;
}

fn load_v(row: u32, kv_head: u32, d: u32) -> vec4<f32> {
    let at = (row * p.kv_heads + kv_head) * VALUE_DIM + d;
    if (d + 4u <= VALUE_DIM) {
        return vec4<f32>(v[at], v[at + 1u], v[at + 2u], v[at + 3u]);
    }
    var part = vec4<f32>(0.0);
    for (var i = 0u; d + i < VALUE_DIM; i++) {
        part[i] = v[at + i];
    }
    return part;
}

// Keys of each part of a row that sees so many: a function of the row alone. A multiple of 128, as in attention.rs.
fn keys_of_part(keys: u32) -> u32 {
    return max(p.part_keys, (keys + MOST_PARTS * 128u - 1u) / (MOST_PARTS * 128u) * 128u);
}

// The first key at or after `at` that any query of the workgroup sees; the largest number if there is none.
fn next_key(at: u32) -> u32 {
    var next = 0xffffffffu;
    for (var i = 0u; i < QUERIES; i++) {
        if (ends[i] > at) {
            next = min(next, max(starts[i], at));
        }
    }
    return next;
}

// One past the last key that any query of the workgroup sees.
fn last_end() -> u32 {
    var last = 0u;
    for (var i = 0u; i < QUERIES; i++) {
        last = max(last, ends[i]);
    }
    return last;
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let kv_head = group.y;
    let heads_of_key = p.heads / p.kv_heads;
    var first = p.query_first + group.x * QUERIES;
    var query_end = p.query_end;
    var part = 0u;
    if (SPLIT == 1u) {
        part = group.x % p.parts;
        let tile = group.x / p.parts;
        first = tile / p.tiles * heads_of_key + tile % p.tiles * QUERIES;
        query_end = (tile / p.tiles + 1u) * heads_of_key;
    }
    if (lane < QUERIES) {
        let query = first + lane;
        let row = min(query, query_end - 1u) / heads_of_key;
        var begin = spans[2u * row];
        var end = spans[2u * row + 1u];
        if (SPLIT == 1u) {
            let keys = keys_of_part(end - begin);
            begin += part * keys;
            end = min(end, begin + keys);
        }
        // A query past the end sees nothing, and nor does one whose keys end before this part.
        starts[lane] = begin;
        ends[lane] = select(0u, end, query < query_end && begin < end);
    }
    workgroupBarrier();
    let end = last_end();

    // Part 1: four queries and four keys.
    let score_query = lane % QUERY_QUADS;
    let score_key = lane / QUERY_QUADS;
    // Part 2: one query, a share of the keys.
    let soft_query = lane % QUERIES;
    let soft_first = lane / QUERIES * SHARE;
    let start = starts[soft_query];
    let stop = ends[soft_query];
    var reference = NONE;
    var sum = 0.0;
    if (p.sinks == 1u && part == 0u) {
        // As if it were the first key.
        let sink = sinks[kv_head * heads_of_key + (first + soft_query) % heads_of_key] * LOG2_E;
        reference = ceil(sink);
        sum = exp2(sink - reference);
    }
    // Part 3: four components, some queries.
    let d_own = lane % ACROSS * 4u;
    let query_own = lane / ACROSS * OWN;
    var acc: array<vec4<f32>, OWN>;

    if (lane == 0u) {
        block_at = next_key(0u);
    }
    loop {
        let block = workgroupUniformLoad(&block_at);
        if (block >= 0xffffffffu) {
            break;
        }

        var s0 = vec4<f32>(0.0);
        var s1 = vec4<f32>(0.0);
        var s2 = vec4<f32>(0.0);
        var s3 = vec4<f32>(0.0);
        for (var step = 0u; step < HEAD_DIM; step += STEP) {
            workgroupBarrier(); // the step before has been read
            for (var i = lane; i < (QUERY_QUADS + KEY_QUADS) * STEP_QUADS; i += LANES) {
                let d = i % STEP_QUADS * 4u;
                let quad = i / STEP_QUADS;
                if (quad < QUERY_QUADS) {
                    let query = first + quad * 4u;
                    let a = load_q(query, kv_head, step + d);
                    let b = load_q(query + 1u, kv_head, step + d);
                    let c = load_q(query + 2u, kv_head, step + d);
                    let e = load_q(query + 3u, kv_head, step + d);
                    let slot = d * QUERY_QUADS + quad;
                    qs[slot] = vec4<f32>(a.x, b.x, c.x, e.x);
                    qs[slot + QUERY_QUADS] = vec4<f32>(a.y, b.y, c.y, e.y);
                    qs[slot + 2u * QUERY_QUADS] = vec4<f32>(a.z, b.z, c.z, e.z);
                    qs[slot + 3u * QUERY_QUADS] = vec4<f32>(a.w, b.w, c.w, e.w);
                } else {
                    let key = block + (quad - QUERY_QUADS) * 4u;
                    let a = load_k(min(key, end - 1u), kv_head, step + d);
                    let b = load_k(min(key + 1u, end - 1u), kv_head, step + d);
                    let c = load_k(min(key + 2u, end - 1u), kv_head, step + d);
                    let e = load_k(min(key + 3u, end - 1u), kv_head, step + d);
                    let slot = d * KEY_QUADS + quad - QUERY_QUADS;
                    ks[slot] = vec4<f32>(a.x, b.x, c.x, e.x);
                    ks[slot + KEY_QUADS] = vec4<f32>(a.y, b.y, c.y, e.y);
                    ks[slot + 2u * KEY_QUADS] = vec4<f32>(a.z, b.z, c.z, e.z);
                    ks[slot + 3u * KEY_QUADS] = vec4<f32>(a.w, b.w, c.w, e.w);
                }
            }
            workgroupBarrier(); // this step is written
            for (var d = 0u; d < STEP; d++) {
                let query = qs[d * QUERY_QUADS + score_query];
                let key = ks[d * KEY_QUADS + score_key];
                s0 = fma(query, vec4<f32>(key.x), s0);
                s1 = fma(query, vec4<f32>(key.y), s1);
                s2 = fma(query, vec4<f32>(key.z), s2);
                s3 = fma(query, vec4<f32>(key.w), s3);
            }
        }
        for (var i = 0u; i < 4u; i++) {
            let at = score_key * 4u * QUERIES + score_query * 4u + i;
            scores[at] = capped(s0[i]);
            scores[at + QUERIES] = capped(s1[i]);
            scores[at + 2u * QUERIES] = capped(s2[i]);
            scores[at + 3u * QUERIES] = capped(s3[i]);
        }
        workgroupBarrier();

        var top = NONE;
        for (var i = soft_first; i < soft_first + SHARE; i++) {
            if (block + i >= start && block + i < stop) {
                top = max(top, scores[i * QUERIES + soft_query]);
            }
        }
        tops[lane] = top;
        workgroupBarrier();
        for (var i = 0u; i < SHARERS; i++) {
            top = max(top, tops[i * QUERIES + soft_query]);
        }
        let moved = max(reference, ceil(top));
        let factor = power_of_two(reference - moved);
        reference = moved;
        for (var i = soft_first; i < soft_first + SHARE; i++) {
            let at = i * QUERIES + soft_query;
            // 2^(score - reference), split so that the reference only enters by a whole power of two.
            let whole = floor(scores[at]);
            let e = exp2(scores[at] - whole) * power_of_two(whole - reference);
            scores[at] = select(0.0, e, block + i >= start && block + i < stop);
        }
        if (lane < QUERIES) {
            factors[lane] = factor;
        }
        workgroupBarrier();

        if (lane < QUERIES) {
            sum *= factor;
            for (var i = 0u; i < KEYS; i++) {
                sum += scores[i * QUERIES + lane];
            }
        }
        if (d_own < VALUE_DIM) {
            for (var i = 0u; i < OWN; i++) {
                acc[i] *= factors[query_own + i];
            }
            for (var j = 0u; j < min(KEYS, end - block); j++) {
                let value = load_v(block + j, kv_head, d_own);
                for (var i = 0u; i < OWN; i++) {
                    // What no query sees may be anything, and nothing times that must stay nothing.
                    let weight = scores[j * QUERIES + query_own + i];
                    acc[i] = select(acc[i], fma(vec4<f32>(weight), value, acc[i]), weight != 0.0);
                }
            }
        }
        if (lane == 0u) {
            block_at = next_key(block + KEYS);
        }
    }

    if (SPLIT == 1u) {
        let stride = VALUE_DIM + 2u;
        if (lane < QUERIES && first + lane < query_end) {
            let at = (query_at(first + lane, kv_head) * p.parts + part) * stride + VALUE_DIM;
            out[at] = sum;
            out[at + 1u] = reference;
        }
        for (var i = 0u; i < OWN; i++) {
            let query = first + query_own + i;
            if (query < query_end) {
                let at = (query_at(query, kv_head) * p.parts + part) * stride + d_own;
                for (var c = 0u; c < min(4u, VALUE_DIM - min(d_own, VALUE_DIM)); c++) {
                    out[at + c] = acc[i][c];
                }
            }
        }
        return;
    }

    if (lane < QUERIES) {
        factors[lane] = sum;
    }
    workgroupBarrier();
    for (var i = 0u; i < OWN; i++) {
        let query = first + query_own + i;
        if (query < p.query_end) {
            let result = acc[i] / factors[query_own + i];
            let at = query_at(query, kv_head) * VALUE_DIM + d_own;
            for (var c = 0u; c < min(4u, VALUE_DIM - min(d_own, VALUE_DIM)); c++) {
                out[at + c] = result[c];
            }
        }
    }
}
