//! The committed table is what RADV makes of today's kernels.

use std::path::Path;

use bitworth_quant::DType;

use super::{HEADER, model, table};

/// Written by the tool: `kernel_budget > src/engine/examples/kernel_budget/budget.csv` on gfx1151.
const TABLE: &str = include_str!("budget.csv");

#[test]
fn kernels_compile_to_what_the_table_says() {
    let folder = Path::new("/usr/share/vulkan/icd.d");
    let names = ["radeon_icd.json", "radeon_icd.x86_64.json"];
    let Some(driver) = names.iter().map(|name| folder.join(name)).find(|path| path.exists()) else { return };
    // SAFETY: the only test of this program that reads or writes the environment, and nothing else runs in it.
    unsafe {
        std::env::set_var("VK_DRIVER_FILES", driver);
        std::env::set_var("RADV_FORCE_FAMILY", "gfx1151");
    }
    // Later Mesas have no null device, and drivers of another version schedule otherwise.
    let Ok(rows) = table(DType::ALL, &["matmul_tiled", "matvec 1", "matvec 8"]) else { return };
    let mut expected = TABLE.lines();
    assert_eq!(expected.next(), Some(HEADER));
    for row in rows.iter().filter(|row| row.device.contains("GFX1151")) {
        assert_eq!(row.spilled(), 0.0, "{}", row.csv());
        let written = expected.next().unwrap_or_default();
        if written.contains(&row.driver) {
            assert_eq!(row.csv(), written);
        }
    }
}

#[test]
fn a_turn_is_the_loop_with_the_multiply_adds() {
    let text = "BB0\n/* logical preds: / linear preds: / kind: top-level, */\n\tv1: %0:v[1] = v_fmac_f32 %1:v[2], %2:v[3]\n\
        BB1\n/* logical preds: BB0, BB3, / linear preds: BB0, BB3, / kind: loop-header, */\n\
        \t v4: %5:v[4-7] = buffer_load_dwordx4 %1:s[0-3], %2:v[0], 0 offen\n\ts_barrier\n\
        BB2\n/* logical preds: BB1, BB2, / linear preds: BB1, BB2, / kind: loop-header, */\n\
        \t v1: %0:v[1] = v_fmac_f32 %1:v[2], %2:v[3]\n\t v1: %0:v[1] = v_mov_b32 0\n\
        BB3\n/* logical preds: BB2, / linear preds: BB2, / kind: continue, */\n\ts_branch block:BB1\nBB4\n";
    let turn = model::turn(text, 10.0).unwrap();
    assert_eq!((turn.fma, turn.loads, turn.cycles(), turn.fma_share()), (10.0, 1.0, 40.0, 0.5));
}
