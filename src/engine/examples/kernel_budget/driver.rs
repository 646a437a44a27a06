//! Compiles compute shaders on Vulkan drivers and asks what they made of them. Nothing runs, so that a driver without a device
//! will do.

use std::ffi::CStr;

use ash::vk;

/// What a driver says of one shader.
#[derive(Debug, Clone, Default)]
pub struct Compiled {
    /// Statistics by the driver's own names.
    pub statistics: Vec<(String, f64)>,
    /// Texts (intermediate forms, machine code) by the driver's own names.
    pub texts: Vec<(String, String)>,
}

impl Compiled {
    /// The statistic `name`, of whichever executable has it.
    pub fn statistic(&self, name: &str) -> Option<f64> {
        self.statistics.iter().find(|(have, _)| have == name).map(|(_, value)| *value)
    }
}

/// A driver with a device opened on it, as wgpu opens one: robust access to buffers where there is such a thing.
pub struct Driver {
    /// The device's name.
    pub name: String,
    /// The driver's own word for its version.
    pub version: String,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    instance: ash::Instance,
    _entry: ash::Entry,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The devices of all installed drivers that tell what they compile to.
pub fn drivers() -> Result<Vec<Driver>> {
    // SAFETY: the loader is a library made to be loaded; the calls below keep to the specification, with structures that live
    // through the call that reads them.
    unsafe {
        let entry = ash::Entry::load()?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let instance = entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)?;
        let mut found = Vec::new();
        for physical in instance.enumerate_physical_devices()? {
            let extensions = instance.enumerate_device_extension_properties(physical)?;
            let has = |name: &CStr| extensions.iter().any(|extension| extension.extension_name_as_c_str() == Ok(name));
            if has(ash::khr::pipeline_executable_properties::NAME) {
                // Every driver on an instance of its own, which goes with it.
                found.push((instance.get_physical_device_properties(physical).device_name_as_c_str()?.to_owned(), physical));
            }
        }
        let names: Vec<_> = found.into_iter().map(|(name, _)| name).collect();
        instance.destroy_instance(None);
        names.iter().map(|name| open(name)).collect()
    }
}

unsafe fn open(name: &CStr) -> Result<Driver> {
    // SAFETY: as in `drivers`.
    unsafe {
        let entry = ash::Entry::load()?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let instance = entry.create_instance(&vk::InstanceCreateInfo::default().application_info(&application), None)?;
        let of_name =
            |physical: &vk::PhysicalDevice| instance.get_physical_device_properties(*physical).device_name_as_c_str() == Ok(name);
        let physical = instance.enumerate_physical_devices()?.into_iter().find(of_name).ok_or("a device went away")?;
        let extensions = instance.enumerate_device_extension_properties(physical)?;
        let robust = extensions.iter().any(|extension| extension.extension_name_as_c_str() == Ok(ash::ext::robustness2::NAME));
        let mut names = vec![ash::khr::pipeline_executable_properties::NAME.as_ptr()];
        if robust {
            names.push(ash::ext::robustness2::NAME.as_ptr());
        }
        let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
        let features = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
        let mut tells = vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
        let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
        let mut info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&names)
            .enabled_features(&features)
            .push_next(&mut tells);
        if robust {
            info = info.push_next(&mut robustness);
        }
        let device = instance.create_device(physical, &info, None)?;
        let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
        let mut about = vk::PhysicalDeviceDriverProperties::default();
        instance.get_physical_device_properties2(physical, &mut vk::PhysicalDeviceProperties2::default().push_next(&mut about));
        let version = about.driver_info_as_c_str()?.to_str()?.to_owned();
        Ok(Driver { name: name.to_str()?.to_owned(), version, device, executables, instance, _entry: entry })
    }
}

impl Driver {
    /// Compiles `code`, whose binding 0 is a uniform buffer and bindings 1 to `storage` are storage buffers.
    pub fn compile(&self, code: &[u32], storage: u32) -> Result<Compiled> {
        let uniform = std::iter::once(vk::DescriptorType::UNIFORM_BUFFER_DYNAMIC);
        let kinds = uniform.chain((0..storage).map(|_| vk::DescriptorType::STORAGE_BUFFER));
        let bindings: Vec<_> = kinds
            .zip(0..)
            .map(|(kind, binding)| {
                let entry = vk::DescriptorSetLayoutBinding::default().binding(binding).descriptor_type(kind);
                entry.descriptor_count(1).stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        // SAFETY: as in `drivers`; everything made here is destroyed here, in reverse order, unless a call failed, after which
        // the program ends.
        unsafe {
            let device = &self.device;
            let layout_info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
            let sets = [device.create_descriptor_set_layout(&layout_info, None)?];
            let layout = device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&sets), None)?;
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(code), None)?;
            let stage = vk::PipelineShaderStageCreateInfo::default().stage(vk::ShaderStageFlags::COMPUTE).module(module);
            let flags =
                vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = vk::ComputePipelineCreateInfo::default().stage(stage.name(c"main")).layout(layout).flags(flags);
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &[info], None);
            let pipeline = made.map_err(|(_, error)| error)?[0];
            let compiled = self.ask(pipeline)?;
            device.destroy_pipeline(pipeline, None);
            device.destroy_shader_module(module, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(sets[0], None);
            Ok(compiled)
        }
    }

    /// # Safety
    /// `pipeline` was made on this device, with statistics and texts captured.
    unsafe fn ask(&self, pipeline: vk::Pipeline) -> Result<Compiled> {
        let mut compiled = Compiled::default();
        // SAFETY: the union's member is the one that its format names; texts are read into buffers of the length asked for.
        unsafe {
            let of_pipeline = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let count = self.executables.get_pipeline_executable_properties(&of_pipeline)?.len() as u32;
            for index in 0..count {
                let info = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(index);
                for statistic in self.executables.get_pipeline_executable_statistics(&info)? {
                    let value = match statistic.format {
                        vk::PipelineExecutableStatisticFormatKHR::UINT64 => statistic.value.u64 as f64,
                        vk::PipelineExecutableStatisticFormatKHR::INT64 => statistic.value.i64 as f64,
                        vk::PipelineExecutableStatisticFormatKHR::FLOAT64 => statistic.value.f64,
                        _ => f64::from(statistic.value.b32),
                    };
                    compiled.statistics.push((statistic.name_as_c_str()?.to_str()?.to_owned(), value));
                }
                let mut texts = self.executables.get_pipeline_executable_internal_representations(&info)?;
                let mut space: Vec<Vec<u8>> = texts.iter().map(|text| vec![0; text.data_size]).collect();
                for (text, space) in texts.iter_mut().zip(&mut space) {
                    text.p_data = space.as_mut_ptr().cast();
                }
                let mut len = texts.len() as u32;
                let read = self.executables.fp().get_pipeline_executable_internal_representations_khr;
                read(self.device.handle(), &raw const info, &raw mut len, texts.as_mut_ptr()).result()?;
                for (text, space) in texts.iter().zip(&space) {
                    let content = CStr::from_bytes_until_nul(space).map_or_else(|_| "".into(), CStr::to_string_lossy);
                    compiled.texts.push((text.name_as_c_str()?.to_str()?.to_owned(), content.into_owned()));
                }
            }
        }
        Ok(compiled)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: nothing of the device is left: `compile` destroys what it makes.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}
