// Products in tiles of TILE x TILE outputs, 64 or 128. Per step of 16 k, invocations bring sixteens of decoded weights and quads
// of x into workgroup memory, where the quads of one k of all rows lie together; then each adds the products of the step to its
// 8 x 8 outputs, rows and columns TILE / 8 apart. Of 128 x 128, half of the invocations decode and half load x. Every output is
// one chain of fused multiply-adds in the order of k, whatever the tile.

const STEP: u32 = 16u;
// Invocations in a row of them, and from one output of an invocation to the next.
const ACROSS: u32 = TILE / 8u;
const LANES: u32 = ACROSS * ACROSS;

// [STEP / 4][TILE] quads along k of the weights, then of x. Within a step's quad q the rows are permuted by q (`slot`), so that
// stores of the quads of one row meet no bank of memory twice.
var<workgroup> quads: array<vec4<f32>, 8u * TILE>;

// Where quad `q` of row `row` lies.
fn slot(q: u32, row: u32) -> u32 {
    return q * TILE + (row ^ (2u * q));
}

fn put_weights(lane: u32, w: mat4x4<f32>) {
    quads[slot(0u, lane)] = w[0];
    quads[slot(1u, lane)] = w[1];
    quads[slot(2u, lane)] = w[2];
    quads[slot(3u, lane)] = w[3];
}

// Quad `lane % 4` of the rows lane / 4 + i * TILE / 4, the last row repeated below the edge.
fn load_xs(tile_row: u32, lane: u32, k: u32) -> mat4x4<f32> {
    let row = tile_row + lane / 4u;
    let last = p.row_end - 1u;
    let at = k + lane % 4u * 4u;
    return mat4x4<f32>(
        load_x(min(row, last), at),
        load_x(min(row + TILE / 4u, last), at),
        load_x(min(row + TILE / 2u, last), at),
        load_x(min(row + 3u * TILE / 4u, last), at),
    );
}

fn put_xs(lane: u32, x: mat4x4<f32>) {
    let first = 4u * TILE + slot(lane % 4u, lane / 4u);
    quads[first] = x[0];
    quads[first + TILE / 4u] = x[1];
    quads[first + TILE / 2u] = x[2];
    quads[first + 3u * TILE / 4u] = x[3];
}

fn store(row: u32, col: u32, v: vec4<f32>) {
    if (row >= p.row_end) {
        return;
    }
    let at = row * p.out_cols + p.out_first + col;
    if (col < p.cols) {
        out[at] = v.x;
    }
    if (col + ACROSS < p.cols) {
        out[at + ACROSS] = v.y;
    }
    if (col + 2u * ACROSS < p.cols) {
        out[at + 2u * ACROSS] = v.z;
    }
    if (col + 3u * ACROSS < p.cols) {
        out[at + 3u * ACROSS] = v.w;
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let tile_row = p.row_first + group.y * TILE;
    let tile_col = group.x * TILE;
    let weight_row = (p.w_first + min(tile_col + lane % TILE, p.cols - 1u)) * p.row_bytes;
    let right = lane % ACROSS;
    let down = lane / ACROSS;

    // acc[2 i] and acc[2 i + 1]: the first and last four columns of the output row i.
    var acc: array<vec4<f32>, 16>;

    for (var k = 0u; k < p.inner; k += STEP) {
        if (TILE == 64u) {
            let w = weights_at(weight_row, k);
            let v = load_xs(tile_row, lane, k);
            workgroupBarrier(); // the step before has been read
            put_weights(lane, w);
            put_xs(lane, v);
        } else {
            let decodes = lane < TILE;
            var brought = mat4x4<f32>();
            if (decodes) {
                brought = weights_at(weight_row, k);
            } else {
                brought = load_xs(tile_row, lane - TILE, k);
            }
            workgroupBarrier(); // the step before has been read
            if (decodes) {
                put_weights(lane, brought);
            } else {
                put_xs(lane - TILE, brought);
            }
        }
        workgroupBarrier(); // this step is written

        for (var q = 0u; q < STEP / 4u; q++) {
            let w = slot(q, right);
            let x = 4u * TILE + slot(q, down);
            let near = transpose(mat4x4<f32>(quads[w], quads[w + ACROSS], quads[w + 2u * ACROSS], quads[w + 3u * ACROSS]));
            let far = transpose(mat4x4<f32>(
                quads[w + 4u * ACROSS],
                quads[w + 5u * ACROSS],
                quads[w + 6u * ACROSS],
                quads[w + 7u * ACROSS],
            ));
            let v0 = quads[x];
            acc[0] = add_products(acc[0], v0, near);
            acc[1] = add_products(acc[1], v0, far);
            let v1 = quads[x + ACROSS];
            acc[2] = add_products(acc[2], v1, near);
            acc[3] = add_products(acc[3], v1, far);
            let v2 = quads[x + 2u * ACROSS];
            acc[4] = add_products(acc[4], v2, near);
            acc[5] = add_products(acc[5], v2, far);
            let v3 = quads[x + 3u * ACROSS];
            acc[6] = add_products(acc[6], v3, near);
            acc[7] = add_products(acc[7], v3, far);
            let v4 = quads[x + 4u * ACROSS];
            acc[8] = add_products(acc[8], v4, near);
            acc[9] = add_products(acc[9], v4, far);
            let v5 = quads[x + 5u * ACROSS];
            acc[10] = add_products(acc[10], v5, near);
            acc[11] = add_products(acc[11], v5, far);
            let v6 = quads[x + 6u * ACROSS];
            acc[12] = add_products(acc[12], v6, near);
            acc[13] = add_products(acc[13], v6, far);
            let v7 = quads[x + 7u * ACROSS];
            acc[14] = add_products(acc[14], v7, near);
            acc[15] = add_products(acc[15], v7, far);
        }
    }

    let row = tile_row + down;
    let col = tile_col + right;
    let half = 4u * ACROSS;
    store(row, col, acc[0]);
    store(row, col + half, acc[1]);
    store(row + ACROSS, col, acc[2]);
    store(row + ACROSS, col + half, acc[3]);
    store(row + 2u * ACROSS, col, acc[4]);
    store(row + 2u * ACROSS, col + half, acc[5]);
    store(row + 3u * ACROSS, col, acc[6]);
    store(row + 3u * ACROSS, col + half, acc[7]);
    store(row + 4u * ACROSS, col, acc[8]);
    store(row + 4u * ACROSS, col + half, acc[9]);
    store(row + 5u * ACROSS, col, acc[10]);
    store(row + 5u * ACROSS, col + half, acc[11]);
    store(row + 6u * ACROSS, col, acc[12]);
    store(row + 6u * ACROSS, col + half, acc[13]);
    store(row + 7u * ACROSS, col, acc[14]);
    store(row + 7u * ACROSS, col + half, acc[15]);
}
