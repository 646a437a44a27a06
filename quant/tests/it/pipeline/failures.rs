//! What goes wrong while a model is quantized, and what is left then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitworth_quant::checkpoint::Tensor;
use bitworth_quant::progress::Unit;
use bitworth_quant::quantize::{Output, QuantizeOptions, encode_tensor};
use bitworth_quant::{DType, Imatrix};

use super::{in_a_process_of_its_own, names_in, run};
use crate::support::memory::{Memory, output_of};

/// Set in the process whose files may not grow, to the folder to write in.
const VARIABLE: &str = "BITWORTH_TEST_FULL_DISK";

#[test]
fn two_runs_do_not_write_the_same_file() {
    let source = Memory::of_matrices(&["a"], 8);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.gguf");
    let output = || output_of(&source, &path, |t| t.dtype);
    let other = bitworth_quant::atomic_file::AtomicFile::create(&path).unwrap();
    // Side by side, because each waits for the lock.
    std::thread::scope(|scope| {
        for resume in [false, true] {
            let (source, output) = (&source, &output);
            scope.spawn(move || {
                let options = QuantizeOptions { resume, ..QuantizeOptions::default() };
                let error = run(source, &[output()], &options).unwrap_err().to_string();
                assert!(error.contains("a.gguf: is being written by another process"), "{error}");
            });
        }
    });
    drop(other);
    run(&source, &[output()], &QuantizeOptions::default()).unwrap();
    assert_eq!(names_in(dir.path()), ["a.gguf"]);
}

/// One stored row stands for as many as are asked for.
#[test]
fn outputs_that_cannot_fit_the_disk_are_refused_before_anything_is_read() {
    let mut source = Memory::of_matrices(&["a"], 1);
    source.tensors[0].shape[1] = 1 << 40;
    let dir = tempfile::tempdir().unwrap();
    let outputs = ["a", "b"].map(|name| output_of(&source, &dir.path().join(name), |t| t.dtype));
    let error = run(&source, &outputs, &QuantizeOptions::default()).unwrap_err().to_string();
    let needed: u64 = 2 * ((256 * 4) << 40);
    let said: u64 = error.split(" are needed").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(error.contains("bytes free") && (needed - 8192..needed + 8192).contains(&said), "{error}");
    assert_eq!(source.reads.lock().unwrap().len(), 0);
    assert_eq!(names_in(dir.path()), [""; 0]);
}

/// Files of the process may not grow beyond a size that the second output reaches in the middle.
#[test]
#[cfg(unix)]
fn a_disk_that_fills_up_ends_the_run_and_leaves_what_was_there() {
    let source = Memory::of_matrices(&["a", "b", "c"], 4_000);
    let outputs = |dir: &Path| [DType::Q4_0, DType::F32].map(|dtype| output_of(&source, &dir.join(dtype.name()), |_| dtype));
    if let Some(dir) = std::env::var_os(VARIABLE) {
        let dir = PathBuf::from(dir);
        let error = run(&source, &outputs(&dir), &QuantizeOptions::default()).unwrap_err().to_string();
        std::fs::write(dir.join("error"), &error).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("F32"), "as it was").unwrap();
    let test = "pipeline::failures::a_disk_that_fills_up_ends_the_run_and_leaves_what_was_there";
    // In blocks of 512 or 1024 bytes, as the shell has it; without the signal that would end the process.
    let status = in_a_process_of_its_own(test, (VARIABLE, dir.path()), "trap '' XFSZ; ulimit -f 5000;");
    assert!(status.success());
    let error = std::fs::read_to_string(dir.path().join("error")).unwrap();
    assert!(error.contains("/F32: "), "{error}");
    assert_eq!(names_in(dir.path()), ["F32", "error"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("F32")).unwrap(), "as it was");
}

#[test]
fn a_name_that_cannot_be_taken_leaves_the_outputs_named_before() {
    let source = Memory::of_matrices(&["a"], 8);
    let dir = tempfile::tempdir().unwrap();
    let outputs = ["a", "b", "c"].map(|name| output_of(&source, &dir.path().join(name), |t| t.dtype));
    // In the middle of the run a folder takes the second one's name.
    struct Obstacle(PathBuf);
    impl bitworth_quant::Progress for Obstacle {
        fn start(&self, _total: u64, _unit: Unit, _what: &str) {
            std::fs::create_dir(&self.0).unwrap();
        }
        fn advance(&self, _delta: u64) {}
        fn finish(&self) {}
    }
    let obstacle = Obstacle(dir.path().join("b"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let error = bitworth_quant::quantize::quantize(&source, &outputs, &QuantizeOptions::default(), &stop, &obstacle)
        .unwrap_err()
        .to_string();
    assert!(error.contains("/b: "), "{error}");
    assert_eq!(names_in(dir.path()), ["a", "b"]);
    assert_eq!(bitworth_quant::gguf::GgufFile::open(&dir.path().join("a")).unwrap().tensors.len(), 1);
}

/// Of many bad weights the first is named, whichever thread meets one first.
#[test]
fn the_first_bad_weight_is_named() {
    let mut source = Memory::of_matrices(&["a", "b"], 8_000);
    for row in (4_321..8_000).step_by(7) {
        source.set("b", row * 256 + 9, f32::NAN);
    }
    let dir = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    for dtype in [DType::Q4_0, DType::F32] {
        let output = output_of(&source, &dir.path().join("a"), |_| dtype);
        let error = pool.install(|| run(&source, &[output], &QuantizeOptions::default())).unwrap_err().to_string();
        assert!(error.contains("tensor b: row 4321, column 9: the weight is NaN"), "{error}");
    }
    assert_eq!(names_in(dir.path()), [""; 0]);
}

/// ggml refuses such weights; an encoder must only not hang, panic, or touch the blocks beside them.
#[test]
fn weights_that_are_no_numbers_are_written_where_they_are_allowed() {
    let mut source = Memory::of_matrices(&["a"], 64);
    let clean: Vec<Vec<u8>> = DType::ALL.iter().map(|&dtype| encode_tensor(&source, "a", dtype, None).unwrap()).collect();
    for (column, value) in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX].into_iter().enumerate() {
        source.set("a", 7 * 256 + column, value);
    }
    (0..256).for_each(|column| source.set("a", 9 * 256 + column, f32::NAN));
    (0..256).for_each(|column| source.set("a", 11 * 256 + column, f32::INFINITY));
    let dir = tempfile::tempdir().unwrap();
    let clock = || 0.0;
    let imatrix = Imatrix::new(Path::new("m"), [("a".to_owned(), vec![1.0; 256])].into());
    for imatrix in [None, Some(Arc::new(imatrix))] {
        let outputs: Vec<_> = DType::ALL
            .iter()
            .map(|&dtype| Output { imatrix: imatrix.clone(), ..output_of(&source, &dir.path().join(dtype.name()), |_| dtype) })
            .collect();
        let options = QuantizeOptions { allow_non_finite: true, report: Some(&clock), ..QuantizeOptions::default() };
        let made = run(&source, &outputs, &options).unwrap();
        for ((made, clean), dtype) in made.iter().zip(&clean).zip(DType::ALL).filter(|_| imatrix.is_none()) {
            let bytes = std::fs::read(&made.path).unwrap();
            let rows = &bytes[bytes.len() - clean.len()..];
            let row = clean.len() / 64;
            for (r, (row, clean)) in rows.chunks(row).zip(clean.chunks(row)).enumerate() {
                assert!([7, 9, 11].contains(&r) || row == clean, "{dtype}: row {r}");
            }
            assert!(made.report[0].rmse.is_nan(), "{dtype}");
        }
    }
}

/// The weights are ordinary; the sums over their products with such importance are not.
#[test]
fn importance_that_makes_scales_overflow_is_refused() {
    let source = Memory::of_matrices(&["a"], 64);
    let dir = tempfile::tempdir().unwrap();
    let imatrix = Arc::new(Imatrix::new(Path::new("m"), [("a".to_owned(), vec![3e38; 256])].into()));
    let output = |dtype| Output { imatrix: Some(Arc::clone(&imatrix)), ..output_of(&source, &dir.path().join("a"), |_| dtype) };
    let error = run(&source, &[output(DType::Q4_K)], &QuantizeOptions::default()).unwrap_err().to_string();
    assert!(error.contains("tensor a: row 0") && error.contains("importance weights are too large"), "{error}");
    assert_eq!(names_in(dir.path()), [""; 0]);
}

#[test]
fn tensors_that_a_matrix_does_not_weigh_are_told() {
    let names = ["token_embd.weight", "blk.0.attn_q.weight", "blk.1.attn_q.weight", "blk.1.attn_k.weight"];
    let source = Memory::of_matrices(&names, 8);
    let imatrix = Imatrix::new(Path::new("m"), [("blk.0.attn_q.weight".to_owned(), vec![1.0; 256])].into());
    let plain = output_of(&source, Path::new("a"), |t| if t.name.ends_with("k.weight") { DType::F16 } else { DType::Q4_0 });
    assert_eq!(plain.unweighted(), [""; 0]);
    let weighed = Output { imatrix: Some(Arc::new(imatrix)), ..plain };
    assert_eq!(weighed.unweighted(), ["blk.1.attn_q.weight"]);
}

#[test]
fn the_importance_of_other_columns_is_refused() {
    let tensor = |name: &str, shape: Vec<usize>| {
        let n: usize = shape.iter().product();
        (Tensor { name: name.to_owned(), dtype: DType::F32, shape }, vec![0; 4 * n])
    };
    let shapes = [("a.weight", vec![256, 4]), ("token_embd.weight", vec![256, 4]), ("experts.weight", vec![256, 4, 2])];
    let source = Memory::new(shapes.into_iter().map(|(name, shape)| tensor(name, shape)).collect());
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, n: usize, to: DType, expected: Option<&str>| {
        let imatrix = Imatrix::new(Path::new("some.imatrix"), [(name.to_owned(), vec![1.0; n])].into());
        let on_the_fly = encode_tensor(&source, name, to, Some(&imatrix)).err().map(|e| e.to_string());
        let output = Output { imatrix: Some(Arc::new(imatrix)), ..output_of(&source, &dir.path().join("a"), |_| to) };
        let error = run(&source, &[output], &QuantizeOptions::default()).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), expected);
        assert_eq!(on_the_fly.as_deref(), expected);
    };
    let of_another = "the matrix is another model's";
    let a = format!("some.imatrix: tensor a.weight: has 255 weights, but the model's has 256 columns; {of_another}");
    check("a.weight", 255, DType::Q4_0, Some(&a));
    check("a.weight", 255, DType::F16, None);
    check("a.weight", 256, DType::Q4_0, None);
    check("token_embd.weight", 255, DType::Q4_0, None);
    let in_each = "the model's has 256 columns in each of 2 matrices";
    let experts = format!("some.imatrix: tensor experts.weight: has 256 weights, but {in_each}; {of_another}");
    check("experts.weight", 256, DType::Q4_0, Some(&experts));
    check("experts.weight", 512, DType::Q4_0, None);
}
