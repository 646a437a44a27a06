//! The committed table is what RADV makes of today's kernels.

use std::path::Path;

use bitworth_quant::DType;

use super::{HEADER, KERNELS, Row, model, table};

/// Written by the tool, once for each family: `RADV_FORCE_FAMILY=gfx1151 kernel_budget`, then the lines of `navi31` without the
/// head.
const TABLE: &str = include_str!("budget.csv");
const FAMILIES: [&str; 2] = ["gfx1151", "navi31"];

#[test]
fn kernels_compile_to_what_the_table_says() {
    let folder = Path::new("/usr/share/vulkan/icd.d");
    let names = ["radeon_icd.json", "radeon_icd.x86_64.json"];
    let Some(driver) = names.iter().map(|name| folder.join(name)).find(|path| path.exists()) else { return };
    let mut expected = TABLE.lines();
    assert_eq!(expected.next(), Some(HEADER));
    for family in FAMILIES {
        // SAFETY: the only test of this program that reads or writes the environment, and nothing else runs in it.
        unsafe {
            std::env::set_var("VK_DRIVER_FILES", &driver);
            std::env::set_var("RADV_FORCE_FAMILY", family);
        }
        // Later Mesas have no null device.
        let Ok(rows) = table(DType::ALL, &KERNELS) else { return };
        for row in rows.iter().filter(|row| row.device.starts_with("Null hardware")) {
            keeps_its_budget(row);
            // Drivers of another version schedule otherwise.
            let written = expected.next().unwrap_or_default();
            if written.contains(&row.driver) {
                assert_eq!(row.csv(), written);
            }
        }
    }
}

/// What the kernels are made to: tiles that compute and do not wait, few instructions for a weight.
fn keeps_its_budget(row: &Row) {
    let line = row.csv();
    assert_eq!(row.spilled(), 0.0, "{line}");
    let (turn, format) = (row.turn.unwrap_or_else(|| panic!("no loop: {line}")), row.dtype.name());
    if row.kernel.starts_with("matmul") {
        assert!(turn.fma >= 1024.0 && turn.fma_share() >= 0.75, "{line}");
        assert!(row.compiled.statistic("Subgroups per SIMD").unwrap() >= 6.0, "{line}");
        assert!(turn.loads <= if format == "Q3_K" { 17.0 } else { 16.0 }, "{line}");
    }
    if row.kernel == "matvec 1" {
        let most = if ["Q4_0", "Q8_0", "Q4_K"].contains(&format) {
            6.0
        } else if format.starts_with("IQ") {
            10.0
        } else {
            11.0
        };
        assert!(row.valu_per_weight().unwrap() <= most, "{line}");
        assert!(most > 6.0 || row.bound().unwrap() >= 512.0, "{line}");
    }
}

#[test]
fn a_turn_is_the_loop_with_the_multiply_adds() {
    let own = "BB0\n/* kind: top-level, */\n\tv1: %0:v[1] = v_fmac_f32 %1:v[2], %2:v[3]\nBB1\n/* kind: loop-header, */\n\
        \t v4: %5:v[4-7] = buffer_load_dwordx4 %1:s[0-3], %2:v[0], 0 offen\n\ts_barrier\nBB2\n/* kind: loop-header, */\n\
        \t v1: %0:v[1] = v_fmac_f32 %1:v[2], %2:v[3]\n\t v1: %0:v[1] = v_mov_b32 0\n\ts_cbranch_scc0 block:BB2\n\
        BB3\n\ts_cbranch_scc0 block:BB5\nBB4\n\ts_branch block:BB1\nBB5\n";
    let llvm = "BB0:\n\tv_fmac_f32_e32 v1, v2, v3 ; 56\nBB1:\n\tbuffer_load_b128 v[4:7], v0, s[0:3], 0 offen ; 5\n\ts_barrier\n\
        BB2:\n\tv_fma_f32 v1, v2, v3, v4\n\tv_mov_b32_e32 v1, 0\n\ts_cbranch_scc0 BB2\nBB3:\n\ts_cbranch_scc0 BB5\n\
        BB4:\n\ts_branch BB1 ; bfa0\nBB5:\n";
    for text in [own, llvm] {
        let turn = model::turn(text, 10.0).unwrap();
        assert_eq!((turn.fma, turn.loads, turn.cycles(), turn.fma_share()), (10.0, 1.0, 40.0, 0.5));
    }
}
