//! The GPU backend against the suite that every backend runs, and what only it has: adapters, kernels, splitting, limits.

#[path = "../../../tests/it/skip.rs"]
mod skip;

use std::sync::OnceLock;

use quant::DType;
use quant::checkpoint::TensorBytes;

use super::adapter::choose;
use super::attention::Tile;
use super::matmul::MatmulKernel;
use super::pipeline::Kernel;
use super::{
    Gpu, GpuSelector, add_bias, attention, combine, copy_columns, elementwise, embed, gather, head, list_adapters, matvec, norm,
    probe, rope,
};
use crate::engine::backend::{Backend, Gate, HostTensor, Map, Norm};
use crate::engine::suite::{self, Random};

/// The adapter under test, opened once. Its absence is a failure, unless someone without any says so (never on CI).
fn gpu() -> Option<&'static Gpu> {
    static GPU: OnceLock<Result<Gpu, String>> = OnceLock::new();
    match GPU.get_or_init(open) {
        Ok(gpu) => Some(gpu),
        Err(error) if std::env::var_os("BITWORTH_SKIP_GPU").is_some_and(|v| v == "1") => {
            skip::skip("a GPU", error);
            None
        }
        Err(error) => panic!("{error} (BITWORTH_SKIP_GPU=1 skips these tests)"),
    }
}

fn open() -> Result<Gpu, String> {
    Gpu::open(GpuSelector::Any).map_err(|error| error.to_string())
}

/// The same adapter with something set differently.
fn gpu_with(change: impl FnOnce(&mut Gpu)) -> Option<Gpu> {
    gpu()?;
    let mut gpu = open().unwrap();
    change(&mut gpu);
    Some(gpu)
}

#[test]
fn every_operation_agrees_with_the_referee() {
    if let Some(gpu) = gpu() {
        suite::run(gpu);
    }
}

#[test]
fn every_operation_agrees_with_the_referee_with_the_other_matmul_kernel() {
    let other =
        |gpu: &mut Gpu| gpu.tuning.matmul = MatmulKernel::ALL.into_iter().find(|&kernel| kernel != gpu.tuning.matmul).unwrap();
    if let Some(gpu) = gpu_with(other) {
        suite::run(&gpu);
    }
}

/// A work limit of almost nothing cuts every large operation between tiles, and submits after each.
#[test]
fn every_operation_agrees_with_the_referee_when_all_is_split() {
    let small = |gpu: &mut Gpu| gpu.tuning.work_limit = 1e5;
    if let Some(gpu) = gpu_with(small) {
        suite::run(&gpu);
    }
}

#[test]
fn a_matrix_beyond_the_binding_limit_is_split_between_rows() {
    let Some(mut gpu) = gpu_with(|_| ()) else { return };
    let mut random = Random::new(21);
    let (rows, inner, cols) = (3, 256, 70);
    let x = random.numbers(rows * inner);
    for &dtype in DType::ALL {
        let (tensor, _) = random.weight(dtype, cols, inner);
        let split = HostTensor { bytes: TensorBytes::Owned(tensor.bytes.to_vec()), ..tensor };
        let expected = multiply_and_embed(&gpu, &gpu.weight(tensor).unwrap(), &x);
        let whole = std::mem::replace(&mut gpu.max_binding_bytes, 2048);
        let split = gpu.weight(split).unwrap();
        gpu.max_binding_bytes = whole;
        assert!(split.parts.len() > 1, "{dtype}");
        assert_eq!(multiply_and_embed(&gpu, &split, &x), expected, "{dtype}");
    }
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

/// On a device that offers no more than WebGPU's default limits, whatever the adapter has.
#[test]
fn every_kernel_compiles_for_every_encoding_within_the_default_limits() {
    if gpu().is_none() {
        return;
    }
    let gpu = Gpu::with_limits(&choose(GpuSelector::Any).unwrap(), wgpu::Limits::default()).unwrap();
    let compile = |kernel: Kernel| gpu.compile(&kernel).unwrap_or_else(|error| panic!("{error}"));
    for kernel in [probe::READ, probe::COPY, probe::FMA] {
        compile(kernel);
    }
    for kernel in [elementwise::ADD, gather::KERNEL, rope::KERNEL, head::KERNEL, combine::KERNEL, copy_columns::KERNEL] {
        compile(kernel);
    }
    for f in [Gate::Silu, Gate::Gelu, Gate::ClampedSilu] {
        compile(elementwise::gate_kernel(f));
    }
    for f in [Map::Gelu, Map::Scale(2.0), Map::Softcap(30.0)] {
        compile(elementwise::map_kernel(f).0);
    }
    for tile in Tile::ALL {
        for (key, value) in [(1, 1), (16, 16), (64, 64), (80, 80), (96, 96), (128, 128), (192, 128), (48, 32), (256, 256)] {
            compile(attention::KERNEL.with(&tile.constants(key, value)));
        }
    }
    for &dtype in DType::ALL {
        for kernel in [embed::EMBED, embed::ADD_ROWS, norm::kernel(Norm::Rms), norm::kernel(Norm::Layer), add_bias::KERNEL] {
            compile(kernel.decoding(dtype));
        }
        for kernel in MatmulKernel::ALL {
            compile(kernel.kernel().decoding(dtype));
        }
        for rows in matvec::ROWS {
            compile(matvec::KERNEL.decoding(dtype).with(&[("ROWS", rows)]));
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error_that_names_it() {
    let Some(gpu) = gpu() else { return };
    let mut out = gpu.alloc(8).unwrap();
    let table = gpu.weight(Random::new(22).weight(DType::F32, 5, 4).0).unwrap();
    let fails = |result: crate::engine::backend::Result<()>, expected: &str| {
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
    gpu.synchronize().unwrap();
}

#[test]
fn an_adapter_that_is_not_there_is_an_error_that_lists_those_that_are() {
    let message = Gpu::open(GpuSelector::Index(99)).err().unwrap().to_string();
    assert!(message.contains("there is no adapter 99") && message.contains("install"), "{message}");
}

#[test]
fn auto_never_picks_a_software_adapter() {
    use crate::engine::backend::DeviceKind::SoftwareGpu;
    let adapters = list_adapters();
    assert!(adapters.iter().all(|adapter| !(adapter.auto && adapter.info.kind == SoftwareGpu)), "{adapters:#?}");
    assert!(adapters.iter().filter(|adapter| adapter.auto).count() <= 1);
    assert!(adapters.iter().enumerate().all(|(i, adapter)| adapter.index == i));
}

#[test]
fn plain_work_is_done_as_it_is_counted() {
    let Some(gpu) = gpu() else { return };
    let mut probe = probe::GpuProbe::new(gpu, 24 << 20).unwrap();
    assert_eq!(crate::engine::probe::Probe::bytes(&probe), 24 << 20);
    probe.check();
}

/// Weights uploaded, used and dropped in turn never take the room of all of them together.
#[test]
fn a_sweep_frees_what_it_drops() {
    let Some(gpu) = gpu_with(|_| ()) else { return };
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
    let Some(gpu) = gpu_with(|_| ()) else { return };
    let (mut x, y) = (gpu.upload(&[1.0; 8]).unwrap(), gpu.upload(&[1.0; 8]).unwrap());
    gpu.add(&mut x, &y, 1.0, 8).unwrap();
    gpu.device.destroy();
    let message = gpu.read(&x, 0..8).unwrap_err().to_string();
    assert!(message.contains("lost"), "{message}");
    assert!(gpu.synchronize().is_err());
    assert!(gpu.alloc(8).is_err());
}
