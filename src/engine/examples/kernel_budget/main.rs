//! What real compilers make of the engine's kernels, without their cards: see [`HELP`].
#![allow(unsafe_code)]

mod driver;
mod model;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::io::Write as _;

use bitworth_engine::gpu::kernels::{KernelText, weight_kernels};
use bitworth_quant::DType;
use naga::back::spv;
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};

const HELP: &str = "\
kernel_budget [FORMAT...]: compiles the products with weights on every Vulkan device that there is and prints, as CSV, what the
drivers say of them. Nothing runs. The null device of Mesa 25's RADV needs no card:
    RADV_FORCE_FAMILY=gfx1151 VK_DRIVER_FILES=/usr/share/vulkan/icd.d/radeon_icd.x86_64.json kernel_budget Q4_K
Other families: navi21, navi31, navi33, gfx1201. DUMP=PATH writes the machine code of each there.
";

/// The kernels in the table.
const KERNELS: [&str; 4] = ["matmul_tiled 128", "matmul_tiled 64", "matvec 1", "matvec 8"];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout().lock();
    if arguments.iter().any(|argument| argument.starts_with('-')) {
        writeln!(out, "{HELP}\n{}", model::MODEL)?;
        return Ok(());
    }
    let chosen = |dtype: &DType| arguments.is_empty() || arguments.iter().any(|name| name == dtype.name());
    let dtypes: Vec<DType> = DType::ALL.iter().copied().filter(chosen).collect();
    writeln!(out, "{HEADER}")?;
    for row in table(&dtypes, &KERNELS)? {
        writeln!(out, "{}", row.csv())?;
    }
    Ok(())
}

const HEADER: &str = "device,driver,kernel,format,VGPRs,spilled,LDS,waves,VALU,VMEM,\
                      loads a turn,FMA share,VALU a weight,bound GB/s";

/// One kernel for one format on one device.
#[derive(Debug)]
struct Row {
    device: String,
    driver: String,
    kernel: String,
    dtype: DType,
    compiled: driver::Compiled,
    turn: Option<model::Turn>,
    weights: f64,
}

impl Row {
    fn spilled(&self) -> f64 {
        ["Spilled VGPRs", "Spilled SGPRs", "Scratch size"].iter().filter_map(|name| self.compiled.statistic(name)).sum()
    }

    fn valu_per_weight(&self) -> Option<f64> {
        Some(self.compiled.statistic("VALU")? / self.weights)
    }

    /// Encoded bytes a second, as the model has it.
    fn bound(&self) -> Option<f64> {
        let bytes = self.dtype.block_bytes() as f64 / self.dtype.block_len() as f64 * self.weights * 64.0;
        Some(bytes / self.turn?.cycles() * 40.0 * 2.0 * 2.9)
    }

    fn csv(&self) -> String {
        let counted = |name| self.compiled.statistic(name).map_or(String::new(), |value| value.to_string());
        let modelled = |value: Option<f64>, digits| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        let few = self.kernel.starts_with("matvec");
        [
            self.device.clone(),
            self.driver.clone(),
            self.kernel.clone(),
            self.dtype.name().into(),
            counted("VGPRs"),
            self.spilled().to_string(),
            counted("LDS size"),
            counted("Subgroups per SIMD"),
            counted("VALU"),
            counted("VMEM"),
            modelled(self.turn.map(|turn| turn.loads), 0),
            modelled(self.turn.map(|turn| turn.fma_share()).filter(|_| !few), 2),
            modelled(self.valu_per_weight().filter(|_| few), 2),
            modelled(self.bound().filter(|_| few), 0),
        ]
        .join(",")
    }
}

/// The kernels `names` for `dtypes` on every device.
fn table(dtypes: &[DType], names: &[&str]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for driver in driver::drivers()? {
        for text in dtypes.iter().flat_map(|&dtype| weight_kernels(dtype)) {
            if names.contains(&text.name.as_str()) {
                rows.push(row(&driver, &text)?);
            }
        }
    }
    Ok(rows)
}

fn row(driver: &driver::Driver, text: &KernelText) -> Result<Row> {
    let compiled = driver.compile(&spirv(&text.wgsl)?, text.storage)?;
    let assembly = compiled.texts.iter().find(|(name, _)| name == "Assembly").map_or("", |(_, text)| text);
    if let Some(folder) = std::env::var_os("DUMP") {
        let name = format!("{} {} {}.s", driver.name, text.name, text.dtype.name()).replace([' ', '(', ')'], "_");
        std::fs::write(std::path::Path::new(&folder).join(name), assembly)?;
    }
    Ok(Row {
        device: driver.name.clone(),
        driver: driver.version.clone(),
        kernel: text.name.clone(),
        dtype: text.dtype,
        turn: model::turn(assembly, f64::from(text.multiply_adds)),
        weights: f64::from(text.weights),
        compiled,
    })
}

/// The code that wgpu hands to a Vulkan driver for a module made without runtime checks, as the engine makes all of its own.
fn spirv(wgsl: &str) -> Result<Vec<u32>> {
    let module = naga::front::wgsl::parse_str(wgsl).map_err(|error| error.emit_to_string(wgsl))?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module)?;
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 6),
        flags: spv::WriterFlags::LABEL_VARYINGS | spv::WriterFlags::FORCE_POINT_SIZE,
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
        force_loop_bounding: false,
        emit_int_div_checks: false,
        ..Default::default()
    };
    let entry = spv::PipelineOptions { shader_stage: naga::ShaderStage::Compute, entry_point: "main".into() };
    Ok(spv::write_vec(&module, &info, &options, Some(&entry))?)
}
