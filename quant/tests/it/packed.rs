//! Weights that are no floats: what every way to store them decodes to, by packing known numbers here; and what is refused.
//! Golden models of such encodings stand among the others (`convert`).

use std::path::Path;

use bitworth_quant::plan::PlanOptions;
use bitworth_quant::progress::Silent;
use bitworth_quant::quantize::{Output, QuantizeOptions, quantize};
use bitworth_quant::safetensors::HfTensors;
use bitworth_quant::{Checkpoint, DType, Recipe};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::support;

/// A matrix of the fixture, its GGUF name, rows and columns.
const MATRIX: &str = "model.layers.0.self_attn.v_proj";
const GGUF: &str = "blk.0.attn_v.weight";
const ROWS: usize = 128;
const COLS: usize = 256;

/// A tensor of a safetensors file: type, shape, bytes.
#[derive(Clone)]
struct Raw(&'static str, Vec<usize>, Vec<u8>);

fn f32s(shape: &[usize], values: &[f32]) -> Raw {
    Raw("F32", shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn f16s(shape: &[usize], values: &[f32]) -> Raw {
    Raw("F16", shape.to_vec(), values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect())
}

fn i32s(shape: &[usize], values: &[u32]) -> Raw {
    Raw("I32", shape.to_vec(), values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

/// A folder with the fixture's model, in which tensors that end with these names stand in for the matrix.
fn folder(tensors: &[(&str, Raw)], config: Json) -> TempDir {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/llama31_gqa");
    let dir = tempfile::tempdir().unwrap();
    for name in ["generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(fixture.join(name), dir.path().join(name)).unwrap();
    }
    let mut json = support::json(&fixture.join("config.json"));
    json["quantization_config"] = config;
    std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
    let files = HfTensors::open(&fixture).unwrap();
    let matrix = format!("{MATRIX}.weight");
    let others = files.tensors().iter().filter(|t| tensors.is_empty() || t.name != matrix);
    let others = others.map(|t| (t.name.clone(), Raw("BF16", t.shape.clone(), t.bytes().to_vec())));
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, Raw(dtype, shape, bytes)) in others.chain(tensors.iter().map(|(end, t)| (format!("{MATRIX}{end}"), t.clone()))) {
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [data.len(), data.len() + bytes.len()]});
        header.insert(name, entry);
        data.extend(bytes);
    }
    let header = Json::Object(header).to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(dir.path().join("model.safetensors"), file).unwrap();
    dir
}

/// The weights of the matrix, whole, and the same by rows that are asked for alone.
fn decoded(dir: &TempDir) -> Vec<f32> {
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tensor = checkpoint.tensor(GGUF).unwrap();
    let read = |rows: std::ops::Range<usize>| {
        let mut values = vec![0.0; rows.len() * COLS];
        tensor.dtype.decode_row(&checkpoint.read(tensor, rows).unwrap(), &mut values);
        values
    };
    let whole = read(0..ROWS);
    let parts: Vec<f32> = [0..1, 1..70, 70..ROWS].into_iter().flat_map(read).collect();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert!(bits(&whole) == bits(&parts));
    whole
}

fn check(what: &str, tensors: &[(&str, Raw)], config: Json, expected: impl Fn(usize, usize) -> f32) {
    let found = decoded(&folder(tensors, config));
    for (i, found) in found.into_iter().enumerate() {
        assert_eq!(found, expected(i / COLS, i % COLS), "{what}: row {}, column {}", i / COLS, i % COLS);
    }
}

fn refused(tensors: &[(&str, Raw)], config: Json, said: &[&str]) {
    let dir = folder(tensors, config);
    let error = Checkpoint::open(dir.path()).err().unwrap_or_else(|| panic!("opens; {said:?} was to be said")).to_string();
    for said in said {
        assert!(error.contains(said), "{said:?} is not in: {error}");
    }
}

/// Some number below `below` for a place.
fn some(row: usize, col: usize, below: usize) -> usize {
    (row * 31 + col * 17 + row * col % 7) % below
}

/// Packs numbers of `bits` bits each one after the other, low bits first.
fn bits(numbers: impl Iterator<Item = usize>, width: usize) -> Vec<u32> {
    let stream: Vec<bool> = numbers.flat_map(|number| (0..width).map(move |bit| number >> bit & 1 == 1)).collect();
    let word = |bits: &[bool]| bits.iter().enumerate().fold(0, |word, (i, &bit)| word | u32::from(bit) << i);
    stream.chunks(32).map(word).collect()
}

/// The same where no number is in two words.
fn whole_bits(numbers: &[usize], width: usize) -> Vec<u32> {
    let word = |part: &[usize]| part.iter().enumerate().fold(0, |word, (i, &n)| word | (n as u32) << (i * width));
    numbers.chunks(32 / width).map(word).collect()
}

fn transposed(words: &[Vec<u32>]) -> Vec<u32> {
    (0..words[0].len()).flat_map(|i| words.iter().map(move |row| row[i])).collect()
}

/// What E4M3 stands for, by its definition.
fn e4m3(code: u8) -> f32 {
    let (sign, exponent, mantissa) = (if code > 127 { -1.0 } else { 1.0 }, i32::from(code >> 3 & 15), f32::from(code & 7));
    sign * if exponent == 0 { mantissa / 8.0 * 2f32.powi(-6) } else { (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 7) }
}

fn code8(row: usize, col: usize) -> u8 {
    // Neither of the two that are no number.
    [some(row, col, 0x7f) as u8, 0x80 + some(row, col, 0x7f) as u8][(row + col) % 2]
}

fn codes8(dtype: &'static str) -> Raw {
    Raw(dtype, vec![ROWS, COLS], (0..ROWS * COLS).map(|i| code8(i / COLS, i % COLS)).collect())
}

fn scale(i: usize) -> f32 {
    0.01 + 0.001 * i as f32
}

fn scales(shape: &[usize]) -> Raw {
    f32s(shape, &(0..shape.iter().product()).map(scale).collect::<Vec<_>>())
}

/// A description as compressed-tensors gives it.
fn groups(form: &str, weights: Json) -> Json {
    json!({"quant_method": "compressed-tensors", "format": form,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}})
}

#[test]
fn eight_bits_have_scales_of_all_shapes() {
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": [48, 100]});
    let value = |r: usize, c: usize| e4m3(code8(r, c));
    // Three blocks of rows and three of columns, ragged.
    let tensors = [(".weight", codes8("F8_E4M3")), (".weight_scale_inv", scales(&[3, 3])), (".input_scale", scales(&[1]))];
    check("blocks", &tensors, fp8, |r, c| value(r, c) * scale(r / 48 * 3 + c / 100));
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": null});
    let tensors = [(".weight", codes8("F8_E4M3")), (".weight_scale_inv", scales(&[])), (".activation_scale", scales(&[]))];
    check("a tensor", &tensors, fp8.clone(), |r, c| value(r, c) * scale(0));
    let tensors = [(".weight", codes8("F8_E4M3")), (".qscale_weight", scales(&[])), (".qscale_act", scales(&[]))];
    check("Mistral's own", &tensors, fp8.clone(), |r, c| value(r, c) * scale(0));
    for shape in [&[ROWS][..], &[ROWS, 1]] {
        let tensors = [(".weight", codes8("F8_E4M3")), (".weight_scale", scales(shape))];
        check("rows", &tensors, json!({"quant_method": "modelopt"}), |r, c| value(r, c) * scale(r));
        let config = groups("float-quantized", json!({"num_bits": 8, "type": "float", "strategy": "channel"}));
        check("rows of compressed-tensors", &tensors, config, |r, c| value(r, c) * scale(r));
    }
    let config =
        groups("naive-quantized", json!({"num_bits": 8, "type": "float", "strategy": "block", "block_structure": "64x32"}));
    let tensors = [(".weight", codes8("F8_E4M3")), (".weight_scale", scales(&[2, 8]))];
    check("blocks of compressed-tensors", &tensors, config, |r, c| value(r, c) * scale(r / 64 * 8 + c / 32));
    let exponents = Raw("F8_E8M0", vec![3, 3], (120..129).collect());
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": [48, 100]});
    let power = |r: usize, c: usize| 2f32.powi((r / 48 * 3 + c / 100) as i32 - 7);
    check("powers", &[(".weight", codes8("F8_E4M3")), (".weight_scale_inv", exponents)], fp8, |r, c| value(r, c) * power(r, c));
    // Of five bits of exponent, those that are numbers: an F16 without its lower byte.
    let low: Vec<u8> = (0..ROWS * COLS).map(|i| some(i / COLS, i % COLS, 0x7c) as u8).collect();
    let half = |r: usize, c: usize| half::f16::from_bits(u16::from(some(r, c, 0x7c) as u8) << 8).to_f32();
    let tensors = [(".weight", Raw("F8_E5M2", vec![ROWS, COLS], low)), (".weight_scale", scales(&[1]))];
    check("E5M2", &tensors, json!({"quant_method": "modelopt"}), |r, c| half(r, c) * scale(0));
}

#[test]
fn eight_bit_integers_have_scales_and_zero_points() {
    let value = |r: usize, c: usize| code8(r, c) as i8;
    let config = |strategy: &str, size: Json| {
        groups("int-quantized", json!({"num_bits": 8, "type": "int", "strategy": strategy, "group_size": size}))
    };
    let tensors = [(".weight", codes8("I8")), (".weight_scale", scales(&[ROWS, 1]))];
    check("rows", &tensors, config("channel", Json::Null), |r, c| f32::from(value(r, c)) * scale(r));
    let zeros = Raw("I8", vec![ROWS, 4], (0..ROWS * 4).map(|i| (i % 23) as u8).collect());
    let tensors = [(".weight", codes8("I8")), (".weight_scale", scales(&[ROWS, 4])), (".weight_zero_point", zeros)];
    let zero = |r: usize, c: usize| ((r * 4 + c / 64) % 23) as i32;
    let expected = |r: usize, c: usize| (i32::from(value(r, c)) - zero(r, c)) as f32 * scale(r * 4 + c / 64);
    check("groups", &tensors, config("group", json!(64)), expected);
    let bytes = json!({"quant_method": "bitsandbytes", "load_in_8bit": true});
    let format = Raw("U8", vec![], vec![0]);
    let tensors = [(".weight", codes8("I8")), (".SCB", scales(&[ROWS])), (".weight_format", format)];
    let part = 7.874_015_718_698_502e-3_f64 as f32;
    check("bitsandbytes", &tensors, bytes, |r, c| f32::from(value(r, c)) * scale(r) * part);
}

/// Columns that belong to groups in no order.
fn group_of(col: usize) -> usize {
    col * 37 % COLS / 64
}

#[test]
fn gptq_has_two_to_eight_bits_in_both_conventions() {
    for width in [2, 3, 4, 8] {
        for (layout, offset) in [("gptq", 1), ("gptq_v2", 0)] {
            for ordered in [false, true] {
                let below = 1 << width;
                let codes: Vec<Vec<u32>> = (0..ROWS).map(|r| bits((0..COLS).map(|c| some(r, c, below)), width)).collect();
                let zero = |g: usize, r: usize| some(g, r, below);
                let zeros: Vec<u32> = (0..4).flat_map(|g| bits((0..ROWS).map(|r| zero(g, r)), width)).collect();
                let of = |c: usize| if ordered { group_of(c) } else { c / 64 };
                let list: Vec<u32> = (0..COLS).map(|c| of(c) as u32).collect();
                let factors: Vec<f32> = (0..4 * ROWS).map(|i| half::f16::from_f32(scale(i)).to_f32()).collect();
                let mut tensors = vec![
                    (".qweight", i32s(&[COLS * width / 32, ROWS], &transposed(&codes))),
                    (".qzeros", i32s(&[4, ROWS * width / 32], &zeros)),
                    (".scales", f16s(&[4, ROWS], &factors)),
                ];
                if ordered {
                    tensors.push((".g_idx", i32s(&[COLS], &list)));
                }
                let config = |size: usize, dynamic: Json| {
                    json!({"quant_method": "gptq", "bits": width, "group_size": size, "desc_act": ordered,
                        "checkpoint_format": layout, "dynamic": dynamic})
                };
                let own = json!({"+:.*v_proj": {"group_size": 64}});
                for config in [config(64, Json::Null), config(128, own)] {
                    check(&format!("{width} bits, {layout}"), &tensors, config, |r, c| {
                        let number = some(r, c, below) as i32 - (zero(of(c), r) as i32 + offset);
                        factors[of(c) * ROWS + r] * number as f32
                    });
                }
            }
        }
    }
}

fn awq() -> ([(&'static str, Raw); 3], Json) {
    const ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];
    let pack = |number: &dyn Fn(usize) -> usize| -> Vec<u32> {
        (0..ROWS / 8).map(|w| (0..8).fold(0, |word, i| word | (number(8 * w + ORDER[i]) as u32) << (4 * i))).collect()
    };
    let codes: Vec<u32> = (0..COLS).flat_map(|c| pack(&|r| some(r, c, 16))).collect();
    let zeros: Vec<u32> = (0..4).flat_map(|g| pack(&|r| some(g, r, 16))).collect();
    let tensors = [
        (".qweight", i32s(&[COLS, ROWS / 8], &codes)),
        (".qzeros", i32s(&[4, ROWS / 8], &zeros)),
        (".scales", f16s(&[4, ROWS], &vec![0.125; 4 * ROWS])),
    ];
    (tensors, json!({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm", "zero_point": true}))
}

#[test]
fn awq_has_its_own_order_of_rows() {
    let (tensors, config) = awq();
    check("AWQ", &tensors, config, |r, c| (some(r, c, 16) as f32 - some(c / 64, r, 16) as f32) * 0.125);
}

/// Packed integers of `width` bits in groups of 64, with or without zero points, with or without an order.
fn integers(width: usize, zeros: bool, ordered: bool) -> (Vec<(&'static str, Raw)>, Json) {
    let (below, in_word) = (1 << width, 32 / width);
    let row = |r: usize| whole_bits(&(0..COLS).map(|c| some(r, c, below)).collect::<Vec<_>>(), width);
    let codes: Vec<u32> = (0..ROWS).flat_map(row).collect();
    let shape = Raw("I64", vec![2], [ROWS as u64, COLS as u64].iter().flat_map(|n| n.to_le_bytes()).collect());
    let mut tensors = vec![
        (".weight_packed", i32s(&[ROWS, COLS.div_ceil(in_word)], &codes)),
        (".weight_scale", scales(&[ROWS, 4])),
        (".weight_shape", shape),
    ];
    if zeros {
        let of_group = |g: usize| whole_bits(&(0..ROWS).map(|r| some(g, r, below)).collect::<Vec<_>>(), width);
        let packed: Vec<Vec<u32>> = (0..4).map(of_group).collect();
        tensors.push((".weight_zero_point", i32s(&[ROWS.div_ceil(in_word), 4], &transposed(&packed))));
    }
    if ordered {
        tensors.push((".weight_g_idx", i32s(&[COLS], &(0..COLS).map(|c| group_of(c) as u32).collect::<Vec<_>>())));
    }
    let weights = json!({"num_bits": width, "type": "int", "strategy": "group", "group_size": 64, "symmetric": !zeros});
    (tensors, groups("pack-quantized", weights))
}

#[test]
fn packed_integers_have_two_to_eight_bits() {
    for width in 2..=8 {
        for (zeros, ordered) in [(false, false), (true, false), (true, true)] {
            let (tensors, config) = integers(width, zeros, ordered);
            check(&format!("{width} bits"), &tensors, config, |r, c| {
                let group = if ordered { group_of(c) } else { c / 64 };
                let zero = if zeros { some(group, r, 1 << width) } else { 1 << (width - 1) };
                (some(r, c, 1 << width) as f32 - zero as f32) * scale(r * 4 + group)
            });
        }
    }
}

/// A group each for two kinds of modules that differ in nothing that tensors show, and one of another format.
#[test]
fn of_several_groups_the_one_that_names_a_module_counts() {
    let (tensors, _) = integers(7, false, false);
    let group = |targets: Json, bits: usize, size: usize| {
        let weights = json!({"num_bits": bits, "type": "int", "strategy": "group", "group_size": size});
        json!({"targets": targets, "weights": weights})
    };
    let config = |first: Json, second: Json| {
        let third = json!({"targets": ["re:.*mlp"], "weights": {"num_bits": 8, "type": "float"}});
        json!({"quant_method": "compressed-tensors", "format": "mixed-precision",
            "config_groups": {"a": first, "b": second, "c": third}})
    };
    let expected = |r: usize, c: usize| (some(r, c, 128) as f32 - 64.0) * scale(r * 4 + c / 64);
    let named = config(group(json!(["Linear"]), 8, 64), group(json!(["re:.*v_proj$"]), 7, 64));
    check("by pattern", &tensors, named, expected);
    let named = config(group(json!(["re:.*mlp.*"]), 8, 64), group(json!([MATRIX]), 7, 64));
    check("by name", &tensors, named, expected);
    let unclear = config(group(json!(["re:.*mlp.*"]), 8, 64), group(json!(["re:.*q_proj"]), 7, 64));
    refused(&tensors, unclear, &["config_groups", MATRIX]);
}

#[test]
fn bitnet_has_quarters_of_the_matrix_in_a_byte() {
    let byte = |i: usize| (0..4).fold(0, |byte, q| byte | some(q * ROWS / 4 + i / COLS, i % COLS, 3) << (2 * q)) as u8;
    let tensors = [
        (".weight", Raw("U8", vec![ROWS / 4, COLS], (0..ROWS / 4 * COLS).map(byte).collect())),
        (".weight_scale", f32s(&[1], &[3.0])),
    ];
    check("BitNet", &tensors, json!({"quant_method": "bitnet"}), |r, c| (some(r, c, 3) as f32 - 1.0) / 3.0);
}

fn four_bits(nested: bool) -> Vec<(&'static str, Raw)> {
    let blocks = ROWS * COLS / 64;
    let byte = |i: usize| (some(2 * i / COLS, 2 * i % COLS, 16) << 4 | some((2 * i + 1) / COLS, (2 * i + 1) % COLS, 16)) as u8;
    let mut state = json!({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [ROWS, COLS]});
    let mut tensors = vec![
        (".weight", Raw("U8", vec![ROWS * COLS / 2, 1], (0..ROWS * COLS / 2).map(byte).collect())),
        (".weight.quant_map", f32s(&[16], &(0..16).map(|i| i as f32 / 8.0 - 1.0).collect::<Vec<_>>())),
    ];
    if nested {
        state["nested_blocksize"] = json!(256);
        state["nested_offset"] = json!(0.5);
        let map: Vec<f32> = (0..256).map(|i| i as f32 / 256.0).collect();
        tensors.push((".weight.absmax", Raw("U8", vec![blocks], (0..blocks).map(|b| (b % 256) as u8).collect())));
        tensors.push((".weight.nested_quant_map", f32s(&[256], &map)));
        tensors.push((".weight.nested_absmax", f32s(&[blocks / 256], &[0.25, 0.75])));
    } else {
        tensors.push((".weight.absmax", scales(&[blocks])));
    }
    let text = state.to_string().into_bytes();
    tensors.push((".weight.quant_state.bitsandbytes__nf4", Raw("U8", vec![text.len()], text)));
    tensors
}

#[test]
fn four_bits_of_bitsandbytes_have_the_first_weight_in_the_high_bits() {
    let config = json!({"quant_method": "bitsandbytes", "load_in_4bit": true});
    let value = |r: usize, c: usize| some(r, c, 16) as f32 / 8.0 - 1.0;
    check("plain", &four_bits(false), config.clone(), |r, c| value(r, c) * scale((r * COLS + c) / 64));
    check("nested", &four_bits(true), config, |r, c| {
        let block = (r * COLS + c) / 64;
        value(r, c) * ((block % 256) as f32 / 256.0 * [0.25, 0.75][block / 256] + 0.5)
    });
}

const FP4: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

fn halves() -> Raw {
    let byte = |i: usize| (some(2 * i / COLS, 2 * i % COLS, 16) | some((2 * i + 1) / COLS, (2 * i + 1) % COLS, 16) << 4) as u8;
    Raw("U8", vec![ROWS, COLS / 2], (0..ROWS * COLS / 2).map(byte).collect())
}

fn value4(r: usize, c: usize) -> f32 {
    FP4[some(r, c, 16)]
}

#[test]
fn four_bit_floats_have_the_first_weight_in_the_low_bits() {
    let powers = Raw("U8", vec![ROWS, COLS / 32], (0..ROWS * COLS / 32).map(|i| 120 + (i % 11) as u8).collect());
    let tensors = [(".weight_packed", halves()), (".weight_scale", powers)];
    let config = groups("mxfp4-pack-quantized", json!({"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32}));
    check("MXFP4", &tensors, config, |r, c| value4(r, c) * 2f32.powi(((r * 8 + c / 32) % 11) as i32 - 7));
    let eights = Raw("F8_E4M3", vec![ROWS, COLS / 16], (0..ROWS * COLS / 16).map(|i| 40 + (i % 40) as u8).collect());
    let value = |r: usize, c: usize| value4(r, c) * e4m3(40 + ((r * 16 + c / 16) % 40) as u8);
    let tensors = [(".weight", halves()), (".weight_scale", eights.clone()), (".weight_scale_2", f32s(&[], &[0.3]))];
    check("NVFP4", &tensors, json!({"quant_method": "modelopt", "quant_algo": "NVFP4"}), |r, c| value(r, c) * 0.3);
    let tensors = [(".weight_packed", halves()), (".weight_scale", eights), (".weight_global_scale", f32s(&[1], &[3.0]))];
    let config =
        groups("nvfp4-pack-quantized", json!({"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}));
    check("NVFP4 of compressed-tensors", &tensors, config, |r, c| value(r, c) * (1.0 / 3.0));
}

#[test]
fn a_checkpoint_says_how_its_weights_are_stored() {
    let files = HfTensors::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hf/llama31_gqa")).unwrap();
    let check = |tensors: &[(&str, Raw)], config: Json, label: &str, but: &[&str]| {
        let dir = folder(tensors, config);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let published = checkpoint.published().unwrap();
        let floats = files.tensors().iter().filter(|t| t.name != format!("{MATRIX}.weight"));
        let others: u64 = floats.map(|t| t.shape.iter().product::<usize>() as u64).sum();
        assert_eq!(published.types, [("bf16".to_owned(), others), (label.to_owned(), (ROWS * COLS) as u64)]);
        // What stands in the file but for what no weight is made from.
        let stored = tensors.iter().filter(|(end, _)| !but.contains(end)).map(|(_, Raw(.., bytes))| bytes.len()).sum::<usize>();
        assert_eq!((published.bytes, checkpoint.total_bytes()), (2 * others + stored as u64, published.bytes), "{label}");
    };
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": [48, 100]});
    let tensors = [(".weight", codes8("F8_E4M3")), (".weight_scale_inv", scales(&[3, 3])), (".input_scale", scales(&[1]))];
    check(&tensors, fp8, "fp8", &[".input_scale"]);
    let (tensors, config) = awq();
    check(&tensors, config, "int4", &[]);
    let (tensors, config) = integers(3, true, true);
    check(&tensors, config, "int3", &[]);
    check(&four_bits(true), json!({"quant_method": "bitsandbytes", "load_in_4bit": true}), "nf4", &[]);
    let floats = folder(&[], json!({"quant_method": "fp8"}));
    assert_eq!(Checkpoint::open(floats.path()).unwrap().published(), None);
}

/// The weights of a checkpoint, of the GGUF file made of it that keeps its blocks, and of its copy.
#[test]
fn a_file_that_keeps_blocks_is_the_same_model() {
    let eights = Raw("F8_E4M3", vec![ROWS, COLS / 16], (0..ROWS * COLS / 16).map(|i| 40 + (i % 40) as u8).collect());
    let tensors = [(".weight", halves()), (".weight_scale", eights), (".weight_scale_2", f32s(&[], &[0.3]))];
    let dir = folder(&tensors, json!({"quant_method": "modelopt"}));
    let model = Checkpoint::open(dir.path()).unwrap();
    let write = |model: &Checkpoint, recipe: &str| {
        let path = dir.path().join(format!("{}.{recipe}.gguf", model.name()));
        let output = Output::of(model, &Recipe::find(recipe).unwrap(), &PlanOptions::default(), &path).unwrap();
        quantize(model, &[output], &QuantizeOptions::default(), &false.into(), &Silent).unwrap();
        Checkpoint::open(&path).unwrap()
    };
    let read = |model: &Checkpoint| {
        let tensor = model.tensor(GGUF).unwrap();
        assert_eq!(tensor.dtype, DType::F32);
        model.read(tensor, 0..ROWS).unwrap().to_vec()
    };
    let file = write(&model, "bf16");
    let kept = bitworth_quant::checkpoint::Model::kept(&file).unwrap();
    assert_eq!(kept.tensors().iter().find(|tensor| tensor.name == GGUF).unwrap().dtype, DType::NVFP4);
    assert!(read(&file) == read(&model));
    assert!(read(&write(&file, "copy")) == read(&model));
    // What quantizes decodes first, without being told to.
    let quantized = [write(&model, "q8_0"), write(&file, "q8_0")].map(|model| {
        let tensor = model.tensor(GGUF).unwrap();
        assert_eq!(tensor.dtype, DType::Q8_0);
        model.read(tensor, 0..ROWS).unwrap().to_vec()
    });
    assert!(quantized[0] == quantized[1]);
}

#[test]
fn a_description_of_weights_that_are_floats_is_of_no_account() {
    let left =
        json!({"quant_method": "compressed-tensors", "format": "marlin-24", "config_groups": {"a": {"format": "packed-5"}}});
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    for config in [json!({}), fp8, json!({"quant_method": "hqq"}), left] {
        let dir = folder(&[], config);
        assert_eq!(Checkpoint::open(dir.path()).unwrap().tensor(GGUF).unwrap().dtype, DType::BF16);
    }
}

#[test]
fn broken_eight_bits_are_refused() {
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    let weight = || (".weight", codes8("F8_E4M3"));
    refused(&[weight()], fp8.clone(), &["v_proj.weight", "F8_E4M3", "scales"]);
    refused(&[weight(), (".weight_scale_inv", scales(&[1, 3]))], fp8.clone(), &["v_proj.weight_scale_inv", "[1, 3]", "[1, 2]"]);
    refused(&[weight(), (".weight_scale_inv", codes8("I8"))], fp8, &["v_proj.weight_scale_inv", "I8", "F32"]);
    let none = json!({"quant_method": "fp8"});
    refused(&[weight(), (".weight_scale_inv", scales(&[1, 2]))], none, &["v_proj.weight_scale_inv", "weight_block_size"]);
    for size in [json!([128]), json!([0, 128]), json!("128"), json!([-1, 5])] {
        let config = json!({"quant_method": "fp8", "weight_block_size": size});
        refused(&[weight(), (".weight_scale_inv", scales(&[1, 2]))], config, &["config.json", "weight_block_size"]);
    }
    let group = groups("float-quantized", json!({"num_bits": 8, "type": "float", "strategy": "group", "group_size": 100}));
    refused(&[weight(), (".weight_scale", scales(&[ROWS, 3]))], group, &["v_proj.weight", "group_size", "100"]);
    let four = groups("float-quantized", json!({"num_bits": 4, "type": "float"}));
    refused(&[weight(), (".weight_scale", scales(&[1]))], four, &["config_groups", "v_proj.weight_scale"]);
    refused(&[weight()], json!({"quant_method": "quark"}), &["quant_method", "quark", "known: ", "fp8"]);
}

#[test]
fn broken_columns_are_refused() {
    let sound = |groups: usize| {
        [
            (".qweight", i32s(&[COLS / 8, ROWS], &vec![0; COLS / 8 * ROWS])),
            (".qzeros", i32s(&[groups, ROWS / 8], &vec![0; groups * ROWS / 8])),
            (".scales", f16s(&[groups, ROWS], &vec![1.0; groups * ROWS])),
        ]
    };
    let config = |change: &dyn Fn(&mut Json)| {
        let mut json = json!({"quant_method": "gptq", "bits": 4, "group_size": 64});
        change(&mut json);
        json
    };
    let same = config(&|_| {});
    for missing in 1..3 {
        let mut tensors = sound(4).to_vec();
        let (name, _) = tensors.remove(missing);
        refused(&tensors, same.clone(), &[name, "is missing", "GPTQ"]);
    }
    refused(&sound(3), same.clone(), &["v_proj.scales", "3 groups", "group_size"]);
    refused(&sound(4), config(&|c| c["group_size"] = json!(0)), &["group_size"]);
    refused(&sound(4), config(&|c| c["bits"] = json!(5)), &["bits", "5"]);
    refused(&sound(4), config(&|c| c["bits"] = json!(8)), &["v_proj"]);
    refused(&sound(4), config(&|c| c["checkpoint_format"] = json!("marlin")), &["checkpoint_format", "marlin", "gptq_v2"]);
    refused(&sound(4), config(&|c| c["desc_act"] = json!(true)), &["g_idx"]);
    refused(&sound(4), config(&|c| c["quant_method"] = json!("aqlm")), &["v_proj.qweight", "aqlm"]);
    for wrong in [4u32, u32::MAX] {
        let mut list = vec![0; COLS];
        list[5] = wrong;
        let tensors = [&sound(4)[..], &[(".g_idx", i32s(&[COLS], &list))]].concat();
        refused(&tensors, same.clone(), &["v_proj.g_idx", "column 5", "4"]);
    }
    let tensors = [&sound(4)[..], &[(".g_idx", i32s(&[COLS - 1], &vec![0; COLS - 1]))]].concat();
    refused(&tensors, same, &["v_proj.g_idx", "[255]"]);
    let (tensors, mut config) = awq();
    config["version"] = json!("gemv");
    refused(&tensors, config.clone(), &["version", "gemv", "gemm"]);
    config["version"] = json!("gemm");
    config["group_size"] = json!(48);
    refused(&tensors, config, &["v_proj.scales", "48"]);
}

#[test]
fn broken_integers_and_four_bits_are_refused() {
    let (tensors, config) = integers(4, false, false);
    let with = |end: &str, raw: Raw| -> Vec<(&'static str, Raw)> {
        tensors.iter().map(|(name, own)| (*name, if *name == end { raw.clone() } else { own.clone() })).collect()
    };
    let shape = |rows: u64, cols: u64| Raw("I64", vec![2], [rows, cols].iter().flat_map(|n| n.to_le_bytes()).collect());
    for missing in 1..3 {
        let mut tensors = tensors.clone();
        let (name, _) = tensors.remove(missing);
        refused(&tensors, config.clone(), &[name, "is missing"]);
    }
    refused(&with(".weight_scale", scales(&[ROWS, 5])), config.clone(), &["v_proj.weight_scale", "[128, 5]", "[128, 4]"]);
    refused(&with(".weight_shape", shape(64, 256)), config.clone(), &["v_proj.weight_shape", "64 rows"]);
    refused(&with(".weight_shape", shape(128, 100)), config.clone(), &["config_groups", "v_proj.weight_packed"]);
    refused(&with(".weight_shape", shape(u64::MAX, 1 << 62)), config.clone(), &["v_proj.weight_shape"]);
    let mut odd = config.clone();
    odd["config_groups"]["group_0"]["weights"]["group_size"] = json!(60);
    refused(&tensors, odd, &["v_proj.weight_packed", "group_size", "60"]);
    let mut unknown = config.clone();
    unknown["format"] = json!("marlin-24");
    refused(&tensors, unknown, &["format", "marlin-24", "pack-quantized"]);
    let mut unknown_group = config.clone();
    unknown_group["config_groups"]["group_0"]["format"] = json!("packed-5");
    refused(&tensors, unknown_group, &["format", "packed-5"]);
    let list = vec![7; COLS];
    let ordered = [&tensors[..], &[(".weight_g_idx", i32s(&[COLS], &list))]].concat();
    refused(&ordered, config, &["v_proj.weight_g_idx", "group 7"]);

    let bytes = json!({"quant_method": "bitsandbytes"});
    let mut nested = four_bits(true);
    nested.retain(|(name, _)| *name != ".weight.nested_absmax");
    refused(&nested, bytes.clone(), &["nested_absmax", "is missing"]);
    let mut wrong = four_bits(false);
    let state = br#"{"blocksize": 64, "shape": [128, 255]}"#.to_vec();
    wrong.last_mut().unwrap().1 = Raw("U8", vec![state.len()], state);
    refused(&wrong, bytes.clone(), &["v_proj.weight", "128 x 255"]);
    wrong.last_mut().unwrap().1 = Raw("U8", vec![4], b"nope".to_vec());
    refused(&wrong, bytes, &["quant_state", "no JSON"]);

    let eights = Raw("F8_E4M3", vec![ROWS, COLS / 16 - 1], vec![40; ROWS * (COLS / 16 - 1)]);
    let tensors = [(".weight", halves()), (".weight_scale", eights), (".weight_scale_2", f32s(&[], &[0.3]))];
    refused(&tensors, json!({"quant_method": "modelopt"}), &["v_proj.weight_scale", "[128, 15]", "[128, 16]"]);
    let eights = Raw("F8_E4M3", vec![ROWS, COLS / 16], vec![40; ROWS * COLS / 16]);
    let tensors = [(".weight_packed", halves()), (".weight_scale", eights), (".weight_global_scale", f32s(&[1], &[0.0]))];
    let config = groups("nvfp4-pack-quantized", json!({"num_bits": 4, "type": "float"}));
    refused(&tensors, config, &["v_proj.weight_global_scale", "is 0"]);
}

/// What the configuration says is there and is not would make other weights without a word.
#[test]
fn what_is_stated_and_missing_is_refused() {
    let eights = Raw("F8_E4M3", vec![ROWS, COLS / 16], vec![40; ROWS * COLS / 16]);
    let tensors = [(".weight", halves()), (".weight_scale", eights)];
    refused(&tensors, json!({"quant_method": "modelopt"}), &["v_proj.weight_scale_2", "is missing"]);

    let (tensors, mut config) = integers(4, false, false);
    config["config_groups"]["group_0"]["weights"]["symmetric"] = json!(false);
    refused(&tensors, config, &["v_proj.weight_zero_point", "is missing"]);
    let (mut tensors, mut config) = integers(4, true, true);
    config["config_groups"]["group_0"]["weights"]["actorder"] = json!("group");
    assert_eq!(tensors.last().unwrap().0, ".weight_g_idx");
    // One column without a group is none of all columns without one.
    let mut list: Vec<u32> = (0..COLS).map(|col| group_of(col) as u32).collect();
    list[0] = u32::MAX;
    tensors.last_mut().unwrap().1 = i32s(&[COLS], &list);
    refused(&tensors, config.clone(), &["v_proj.weight_g_idx", "column 0"]);
    tensors.pop();
    refused(&tensors, config, &["v_proj.weight_g_idx", "is missing"]);

    let int8 = groups("int-quantized", json!({"num_bits": 8, "type": "int", "strategy": "tensor", "symmetric": false}));
    let tensors = [(".weight", codes8("I8")), (".weight_scale", scales(&[1]))];
    refused(&tensors, int8, &["v_proj.weight_zero_point", "is missing"]);
    let float = groups("float-quantized", json!({"num_bits": 8, "type": "float", "strategy": "tensor"}));
    let zero = |point: u8| {
        let zeros = Raw("I8", vec![1], vec![point]);
        [(".weight", codes8("F8_E4M3")), (".weight_scale", scales(&[1])), (".weight_zero_point", zeros)]
    };
    refused(&zero(5), float.clone(), &["v_proj.weight_zero_point", "8-bit floats"]);
    check("a zero point of 0", &zero(0), float, |r, c| e4m3(code8(r, c)) * scale(0));
    for (key, value) in [("linear_class", "autobitlinear"), ("quantization_mode", "online")] {
        refused(&[], json!({"quant_method": "bitnet", key: value}), &[key, value, "BF16"]);
    }
}

/// A scale that is NaN or negative gives NaN weights, which `quantize` refuses.
#[test]
fn broken_scales_of_four_bit_floats_do_not_become_weights() {
    for broken in [0x7f, 0xff, 0x81] {
        let mut eights = vec![40; ROWS * COLS / 16];
        eights[3] = broken;
        let eights = Raw("F8_E4M3", vec![ROWS, COLS / 16], eights);
        let tensors = [(".weight", halves()), (".weight_scale", eights), (".weight_scale_2", f32s(&[], &[0.3]))];
        let values = decoded(&folder(&tensors, json!({"quant_method": "modelopt", "quant_algo": "NVFP4"})));
        assert!(values.iter().enumerate().all(|(i, value)| value.is_nan() == (48..64).contains(&i)), "{broken:#x}");
    }
}
