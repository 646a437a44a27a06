//! The GPU backend against the suite that every backend runs, and what only it has: adapters, kernels, splitting, limits.

#[path = "../../../tests/it/skip.rs"]
mod skip;

use std::sync::OnceLock;

use bitworth_quant::DType;
use bitworth_quant::checkpoint::TensorBytes;

use super::adapter::choose;
use super::attention::Tile;
use super::pipeline::Kernel;
use super::tuning::MatmulKernel;
use super::{
    Gpu, add_bias, argmax, attention, combine, conv, copy_columns, elementwise, embed, gather, head, matvec, norm, probe, recur,
    rope,
};
use crate::adapter::{GpuSelector, list_adapters};
use crate::backend::{Backend, Gate, HostTensor, Map, Norm, Recurrence};
use crate::suite::{self, Random};

/// The adapter under test, opened once for each share of the suite, with no more than WebGPU's default limits, whatever the
/// adapter offers. Compiling kernels is nearly all that a software adapter does here: every kernel is compiled on one of these
/// devices and not again, and the shares run side by side. A missing adapter is a failure, unless someone without any says so
/// (never on CI).
fn device(share: Share) -> Option<&'static Gpu> {
    static DEVICES: [OnceLock<Result<Gpu, String>>; 4] = [const { OnceLock::new() }; 4];
    match DEVICES[share as usize].get_or_init(open) {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("BITWORTH_SKIP_GPU").is_some_and(|v| v == "1") => {
            skip::skip("a GPU", error);
            None
        }
        Err(error) => panic!("{error} (BITWORTH_SKIP_GPU=1 skips these tests)"),
    }
}

#[derive(Debug, Clone, Copy)]
enum Share {
    /// Operations on plain numbers, and everything that needs but a few kernels. The longest: its name sorts it first.
    Plain,
    /// Every third encoding, from the first on.
    First,
    /// Every third, from the second on.
    Second,
    /// The rest of them.
    Third,
}

fn gpu() -> Option<&'static Gpu> {
    device(Share::Plain)
}

pub(super) fn open() -> Result<Gpu, String> {
    let opened = choose(GpuSelector::Any).and_then(|adapter| Gpu::with_limits(&adapter, wgpu::Limits::default()));
    opened.map_err(|error| error.to_string())
}

/// A device of its own with all that the adapter offers.
pub(super) fn fresh() -> Option<Gpu> {
    gpu()?;
    Some(Gpu::open(GpuSelector::Any).unwrap())
}

/// The device as it is; with the other matmul kernel; and with a work limit of almost nothing, which cuts every large operation
/// between tiles and submits after each.
fn tunings(gpu: &Gpu) -> [Gpu; 3] {
    let other = MatmulKernel::ALL.into_iter().find(|&kernel| kernel != gpu.tuning.matmul).unwrap();
    [gpu.tuned(|_| ()), gpu.tuned(|tuning| tuning.matmul = other), gpu.tuned(|tuning| tuning.work_limit = 1e5)]
}

#[test]
fn each_operation_on_plain_numbers_agrees_with_the_referee() {
    let Some(gpu) = gpu() else { return };
    tunings(gpu).iter().for_each(suite::plain);
}

/// The same part of it alone.
#[test]
#[ignore = "a part of the test above"]
fn each_operation_on_states_agrees_with_the_referee() {
    let Some(gpu) = gpu() else { return };
    tunings(gpu).iter().for_each(suite::recurrent);
}

#[test]
fn every_operation_agrees_with_the_referee_in_a_third_of_the_encodings() {
    check_encodings(Share::First);
}

#[test]
fn every_operation_agrees_with_the_referee_in_another_third_of_the_encodings() {
    check_encodings(Share::Second);
}

#[test]
fn every_operation_agrees_with_the_referee_in_the_last_third_of_the_encodings() {
    check_encodings(Share::Third);
}

/// Encodings that also go through the product that the device would not choose: of every kind one. A kernel sees no more of an
/// encoding than its decoder, which the other product runs for all of them, and translating a kernel is what takes the time.
const WITH_BOTH_KERNELS: [DType; 7] =
    [DType::F32, DType::F16, DType::Q8_0, DType::Q5_1, DType::Q4_K, DType::IQ4_XS, DType::IQ3_XXS];

fn check_encodings(share: Share) {
    let Some(gpu) = device(share) else { return };
    let first = match share {
        Share::Plain | Share::First => 0,
        Share::Second => 1,
        Share::Third => 2,
    };
    let tunings = tunings(gpu);
    // One encoding at a time: a software adapter keeps machine code for so many kernels only, and translates the others again.
    for &dtype in DType::ALL.iter().skip(first).step_by(3) {
        let [own, other, cut] = &tunings;
        for gpu in [own, cut].into_iter().chain(WITH_BOTH_KERNELS.contains(&dtype).then_some(other)) {
            suite::encoded(gpu, &[dtype]);
        }
        if WITH_BOTH_KERNELS.contains(&dtype) {
            every_shape_of_tiles_gives_the_same_bits(gpu, dtype);
        }
        a_matrix_beyond_the_binding_limit_is_split_between_rows(gpu, dtype);
        every_kernel_compiles_for(gpu, dtype);
    }
}

/// Tiles of every kernel and shape add in one order: a row's result depends neither on them nor on the rows beside it.
fn every_shape_of_tiles_gives_the_same_bits(gpu: &Gpu, dtype: DType) {
    let mut random = Random::new(23);
    let inner = if dtype.is_float() { 75 } else { 256 };
    let (rows, cols) = (137, 150);
    let (weight, x) =
        (gpu.weight(random.weight(dtype, cols, inner).0).unwrap(), gpu.upload(&random.numbers(rows * inner)).unwrap());
    let product = |gpu: &Gpu, rows: std::ops::Range<usize>| {
        let mut out = gpu.alloc(rows.end * cols).unwrap();
        gpu.matmul(&x, rows.clone(), &weight, 0..cols, &mut out).unwrap();
        let all = gpu.read(&out, 0..rows.end * cols).unwrap();
        all[rows.start * cols..].iter().map(|number| number.to_bits()).collect::<Vec<_>>()
    };
    let shaped = |kernel, fewest_groups| {
        gpu.tuned(|tuning| {
            tuning.matmul = kernel;
            tuning.fewest_groups = fewest_groups;
        })
    };
    let expected = product(&shaped(MatmulKernel::Registers, 0), 0..rows);
    for fewest_groups in [0, 1000] {
        let gpu = shaped(MatmulKernel::Tiled, fewest_groups);
        assert!(product(&gpu, 0..rows) == expected, "{dtype}, {fewest_groups}");
        assert!(product(&gpu, 129..131) == expected[129 * cols..131 * cols], "{dtype}, {fewest_groups}: two rows alone");
    }
}

fn a_matrix_beyond_the_binding_limit_is_split_between_rows(gpu: &Gpu, dtype: DType) {
    let mut random = Random::new(21);
    let (rows, inner, cols) = (3, 256, 70);
    let x = random.numbers(rows * inner);
    let (tensor, _) = random.weight(dtype, cols, inner);
    let split = HostTensor { bytes: TensorBytes::Owned(tensor.bytes.to_vec()), ..tensor };
    let expected = multiply_and_embed(gpu, &gpu.weight(tensor).unwrap(), &x);
    let mut narrow = gpu.tuned(|_| ());
    narrow.max_binding_bytes = 2048;
    let split = narrow.weight(split).unwrap();
    assert!(split.parts.len() > 1, "{dtype}");
    assert_eq!(multiply_and_embed(gpu, &split, &x), expected, "{dtype}");
}

/// Both products and an embedding with one matrix.
fn multiply_and_embed(gpu: &Gpu, weight: &super::GpuWeight, x: &[f32]) -> Vec<Vec<f32>> {
    let (rows, range) = (x.len() / weight.cols, 5..weight.rows);
    let (len, x) = (rows * range.len(), gpu.upload(x).unwrap());
    let [mut matmul, mut matvec, mut embedded] = [len, len, 4 * weight.cols].map(|len| gpu.alloc(len).unwrap());
    gpu.matmul(&x, 0..rows, weight, range.clone(), &mut matmul).unwrap();
    gpu.matvec(&x, 0..rows, weight, range, &mut matvec).unwrap();
    gpu.embed(weight, &gpu.indices(&[0, 69, 17, 31]).unwrap(), 4, &mut embedded).unwrap();
    [(matmul, len), (matvec, len), (embedded, 4 * weight.cols)].map(|(buffer, len)| gpu.read(&buffer, 0..len).unwrap()).to_vec()
}

fn compile(gpu: &Gpu, kernel: Kernel) {
    gpu.compile(&kernel).unwrap_or_else(|error| panic!("{error}"));
}

/// Also those that no test runs, within the default limits.
#[test]
fn every_kernel_without_weights_compiles() {
    let Some(gpu) = gpu() else { return };
    for kernel in [probe::READ, probe::COPY, probe::FMA, argmax::PARTS, argmax::JOIN] {
        compile(gpu, kernel);
    }
    for kernel in [elementwise::ADD, gather::KERNEL, rope::KERNEL, head::KERNEL, combine::KERNEL, copy_columns::KERNEL] {
        compile(gpu, kernel);
    }
    for f in [Gate::Silu, Gate::Gelu, Gate::ClampedSilu, Gate::Sigmoid, Gate::Product] {
        compile(gpu, elementwise::gate_kernel(f));
    }
    let xielu = Map::Xielu { alpha_p: 0.8, alpha_n: 1.3, beta: 0.5, eps: -1e-6 };
    for f in [Map::Gelu, Map::Scale(2.0), Map::Softcap(30.0), Map::Silu, Map::ReluSquared, xielu] {
        compile(gpu, elementwise::map_kernel(f).0);
    }
    for kind in [Recurrence::Delta, Recurrence::Scan { dt_min: 0.0, dt_max: 1.0 }] {
        for key_dim in [1, 16, 64, 96, 128, 192, 256, 4096] {
            compile(gpu, recur::KERNEL.with(&recur::constants(kind, key_dim)));
        }
    }
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for before in [1, 2, 3] {
            compile(gpu, conv::KERNEL.decoding(dtype).with(&[("BEFORE", before)]));
        }
    }
    let widths = [(1, 1), (16, 16), (64, 64), (80, 80), (96, 96), (128, 128), (192, 128), (48, 32), (256, 256)];
    for (key, value) in widths {
        for tile in Tile::ALL {
            compile(gpu, attention::KERNEL.with(&tile.constants(key, value, false)));
        }
        compile(gpu, attention::KERNEL.with(&Tile::Narrow.constants(key, value, true)));
        compile(gpu, attention::JOIN.with(&[("VALUE_DIM", value as u32)]));
    }
}

fn every_kernel_compiles_for(gpu: &Gpu, dtype: DType) {
    for kernel in [embed::EMBED, embed::ADD_ROWS, norm::kernel(Norm::Rms), norm::kernel(Norm::Layer), add_bias::KERNEL] {
        compile(gpu, kernel.decoding(dtype));
    }
    for kernel in MatmulKernel::ALL {
        for shape in kernel.shapes() {
            compile(gpu, kernel.kernel(16).decoding(dtype).with(shape.constants));
        }
    }
    for rows in matvec::ROWS {
        compile(gpu, matvec::kernel(16).decoding(dtype).with(&[("ROWS", rows)]));
    }
}

#[test]
fn what_does_not_fit_is_an_error_that_names_it() {
    let Some(gpu) = gpu() else { return };
    let mut out = gpu.alloc(8).unwrap();
    let table = gpu.weight(Random::new(22).weight(DType::F32, 5, 4).0).unwrap();
    let fails = |result: crate::backend::Result<()>, expected: &str| {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} does not say {expected:?}");
    };
    fails(gpu.embed(&table, &gpu.indices(&[0, 5]).unwrap(), 2, &mut out), "token 5 is out of range, there are 5");
    fails(gpu.embed(&table, &gpu.indices(&[0, 1, 2]).unwrap(), 3, &mut out), "holds 8 numbers where 12 are needed");
    fails(gpu.alloc(gpu.max_buffer_len() + 1).map(drop), "the device's limit");
    let short = HostTensor { dtype: DType::Q8_0, rows: 2, cols: 32, bytes: TensorBytes::Owned(vec![0; 67]) };
    fails(gpu.weight(short).map(drop), "a Q8_0 tensor of 2 x 32 does not take 67 bytes");
    let ragged = HostTensor { dtype: DType::Q8_0, rows: 1, cols: 33, bytes: TensorBytes::Owned(vec![0; 34]) };
    fails(gpu.weight(ragged).map(drop), "33 columns is not a whole number of Q8_0 blocks");
    let x = gpu.upload(&[1.0; 4]).unwrap();
    fails(gpu.matmul(&x, 0..2, &table, 0..5, &mut out), "matmul: the input holds 4 numbers where 8 are needed");
    fails(gpu.matvec(&x, 0..1, &table, 0..6, &mut out), "matvec: weight rows 0..6 of 5");
    gpu.synchronize().unwrap();
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let message = Gpu::open(GpuSelector::Index(99)).err().unwrap().to_string();
    assert!(message.contains("there is no adapter 99") && message.contains("install"), "{message}");
}

#[test]
fn auto_never_picks_a_software_adapter() {
    use crate::backend::DeviceKind::SoftwareGpu;
    let adapters = list_adapters();
    assert!(adapters.iter().all(|adapter| !(adapter.auto && adapter.info.kind == SoftwareGpu)), "{adapters:#?}");
    assert!(adapters.iter().filter(|adapter| adapter.auto).count() <= 1);
    assert!(adapters.iter().enumerate().all(|(i, adapter)| adapter.index == i));
}

#[test]
fn plain_work_is_done_as_it_is_counted() {
    let Some(gpu) = gpu() else { return };
    let mut probe = probe::GpuProbe::new(gpu, 24 << 20).unwrap();
    assert_eq!(crate::probe::Probe::bytes(&probe), 24 << 20);
    probe.check();
}

/// Weights uploaded, used and dropped in turn never take the room of all of them together.
#[test]
fn a_sweep_frees_what_it_drops() {
    let Some(gpu) = fresh() else { return };
    let (rows, cols, layers) = (1024, 4096, 40u8);
    let layer_bytes = 4 * (rows * cols) as u64;
    let x = gpu.upload(&vec![1.0; cols]).unwrap();
    let mut out = gpu.alloc(rows).unwrap();
    for layer in 0..layers {
        let bytes = TensorBytes::Owned(f32::from(layer).to_le_bytes().repeat(rows * cols));
        let weight = gpu.weight(HostTensor { dtype: DType::F32, rows, cols, bytes }).unwrap();
        gpu.matvec(&x, 0..1, &weight, 0..rows, &mut out).unwrap();
        if let Some(report) = gpu.device.generate_allocator_report() {
            let allocated = report.total_allocated_bytes;
            assert!(allocated < u64::from(layers) * layer_bytes / 2, "layer {layer}: {allocated} bytes are still allocated");
        }
    }
    let sums = gpu.read(&out, 0..rows).unwrap();
    assert!(sums.iter().all(|&sum| sum == f32::from(layers - 1) * cols as f32), "{:?}", &sums[..4]);
}

#[test]
fn a_lost_device_is_an_error_and_not_a_panic() {
    let Some(gpu) = fresh() else { return };
    let (mut x, y) = (gpu.upload(&[1.0; 8]).unwrap(), gpu.upload(&[1.0; 8]).unwrap());
    gpu.add(&mut x, &y, 1.0, 8).unwrap();
    gpu.device.destroy();
    let message = gpu.read(&x, 0..8).unwrap_err().to_string();
    assert!(message.contains("lost"), "{message}");
    assert!(gpu.synchronize().is_err());
    assert!(gpu.alloc(8).is_err());
}
