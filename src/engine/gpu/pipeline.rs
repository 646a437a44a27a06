//! Compute pipelines, made when first needed and kept. A kernel's text is put together from its constants, the functions that
//! kernels share, the decoder of the weight's encoding, and its body; no preprocessor. Knows nothing of what kernels compute.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bitworth_quant::DType;
use bitworth_quant::formats::PRELUDE_WGSL;

use super::errors::Errors;
use crate::backend::Result;

/// Bytes that the parameters of every kernel fit.
pub(super) const PARAMS_BYTES: usize = 64;

/// One kernel: a WGSL body with the values it is specialized for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel<'a> {
    /// The op's name, as in its file name.
    pub name: &'static str,
    /// The WGSL text with the entry point `main`. Binding 0 is the uniform `Params`; storage buffers follow.
    pub body: &'static str,
    /// The encoding whose decoder the body calls on its binding `weights: array<Words>`.
    pub dtype: Option<DType>,
    /// Whether the body calls functions of `functions.wgsl`.
    pub functions: bool,
    /// Constants put before the body, as `const NAME: u32 = value;`.
    pub constants: &'a [(&'static str, u32)],
    /// For every storage binding, in order, whether the kernel writes to it.
    pub writes: &'static [bool],
}

impl<'a> Kernel<'a> {
    /// A kernel without weights and constants.
    pub const fn plain(name: &'static str, body: &'static str, writes: &'static [bool]) -> Self {
        Self { name, body, dtype: None, functions: false, constants: &[], writes }
    }

    /// The same for weights of the encoding `dtype`.
    pub const fn decoding(self, dtype: DType) -> Self {
        Self { dtype: Some(dtype), ..self }
    }

    /// The same with the functions of `functions.wgsl` before it.
    pub const fn with_functions(self) -> Self {
        Self { functions: true, ..self }
    }

    /// The same with `constants`.
    pub const fn with(self, constants: &'a [(&'static str, u32)]) -> Self {
        Self { constants, ..self }
    }

    fn key(&self) -> Key {
        (self.name, self.dtype, self.constants.iter().map(|constant| constant.1).collect())
    }

    /// The whole WGSL text; with its parameters as immediates where the device has them.
    pub fn source(&self, immediates: bool) -> String {
        let mut text = String::new();
        for (name, value) in self.constants {
            let _ = writeln!(text, "const {name}: u32 = {value}u;");
        }
        if self.functions {
            text.push_str(include_str!("functions.wgsl"));
        }
        if let Some(dtype) = self.dtype {
            text.push_str(PRELUDE_WGSL);
            text.push_str(&dtype.format().wgsl());
        }
        match immediates {
            true => text + &self.body.replacen("@group(0) @binding(0) var<uniform> p:", "var<immediate> p:", 1),
            false => text + self.body,
        }
    }
}

/// Whether rows of x of `inner` numbers are whole sixteens, so that products load them by fours.
pub(super) const fn whole(inner: usize) -> bool {
    inner.is_multiple_of(16)
}

/// A product with weights: what all share, one of the two ways to load x, and its own text.
macro_rules! product_kernel {
    ($name:literal, $x:literal, $own:literal) => {
        Kernel::plain($name, concat!(include_str!("product.wgsl"), include_str!($x), include_str!($own)), &[false, false, true])
    };
}
pub(super) use product_kernel;

type Key = (&'static str, Option<DType>, Vec<u32>);

/// A compiled kernel with the layout of its bindings.
pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    /// What no other pipeline of the device has.
    pub id: u64,
    pub layout: wgpu::BindGroupLayout,
}

/// All pipelines made so far.
pub(super) struct Pipelines {
    made: Mutex<HashMap<Key, Arc<Pipeline>>>,
    immediates: bool,
}

impl Pipelines {
    /// None yet; their parameters will be immediates (which come with a dispatch) or stand in a uniform buffer.
    pub fn new(immediates: bool) -> Self {
        Self { made: Mutex::default(), immediates }
    }

    /// Whether parameters are immediates.
    pub fn immediates(&self) -> bool {
        self.immediates
    }

    /// The pipeline of `kernel`, compiled now if it is the first call.
    pub fn get(&self, device: &wgpu::Device, errors: &Errors, kernel: &Kernel) -> Result<Arc<Pipeline>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = kernel.key();
        if let Some(pipeline) = made.get(&key) {
            return Ok(pipeline.clone());
        }
        let dtype = kernel.dtype.map_or(String::new(), |dtype| format!(" for {}", dtype.name()));
        let what = format!("compiling the kernel {}{dtype}", kernel.name);
        let pipeline = Arc::new(errors.scoped(device, &what, || compile(device, kernel, made.len() as u64, self.immediates))?);
        made.insert(key, pipeline.clone());
        Ok(pipeline)
    }
}

fn compile(device: &wgpu::Device, kernel: &Kernel, id: u64, immediates: bool) -> Pipeline {
    let label = Some(kernel.name);
    let source = wgpu::ShaderSource::Wgsl(kernel.source(immediates).into());
    // SAFETY: every index a kernel computes is kept inside its buffers: sizes are checked against the buffers and index lists
    // against their bounds before each dispatch, edge tiles are clamped in the shader, loops have counted bounds, and weight
    // buffers are padded so that whole-word reads of a row's last bytes stay inside.
    #[allow(unsafe_code)]
    let module = unsafe {
        let desc = wgpu::ShaderModuleDescriptor { label, source };
        device.create_shader_module_trusted(desc, wgpu::ShaderRuntimeChecks::unchecked())
    };
    let params = (!immediates).then(|| entry(0, wgpu::BufferBindingType::Uniform));
    let storage = kernel.writes.iter().map(|write| wgpu::BufferBindingType::Storage { read_only: !write });
    let entries: Vec<_> = params.into_iter().chain(storage.zip(1..).map(|(ty, binding)| entry(binding, ty))).collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: if immediates { PARAMS_BYTES as u32 } else { 0 },
    });
    let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        // Every kernel writes its workgroup memory before it reads it.
        compilation_options: wgpu::PipelineCompilationOptions { zero_initialize_workgroup_memory: false, ..Default::default() },
        cache: None,
    });
    Pipeline { raw, id, layout }
}

fn entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: binding == 0, min_binding_size: None },
        count: None,
    }
}
