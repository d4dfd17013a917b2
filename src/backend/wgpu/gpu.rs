//! An open device with its kernels, each compiled when it is first needed.
//!
//! Invariant: whatever wgpu reports outside a call's own result is kept as the device's failure, and every batch that is
//! or will be on it fails with it. The device is then replaced, never repaired.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindGroupLayout, BindGroupLayoutDescriptor, BindGroupLayoutEntry,
    BindingType, BufferBindingType, ComputePipeline, ComputePipelineDescriptor, Device, DeviceDescriptor, Features,
    Limits, PipelineLayout, PipelineLayoutDescriptor, Queue, ShaderModule, ShaderModuleDescriptor, ShaderSource,
    ShaderStages,
};

use crate::error::{Error, Result};
use crate::program::passes::Entry;

/// The kernels, each file named after the part of the CPU backend that it mirrors.
pub const SHADER: &str = concat!(
    include_str!("../../../shaders/params.wgsl"),
    include_str!("../../../shaders/convert.wgsl"),
    include_str!("../../../shaders/picture.wgsl"),
    include_str!("../../../shaders/color.wgsl"),
    include_str!("../../../shaders/resize.wgsl"),
    include_str!("../../../shaders/blur.wgsl"),
    include_str!("../../../shaders/affine.wgsl"),
    include_str!("../../../shaders/passes.wgsl"),
    include_str!("../../../shaders/pack.wgsl"),
);

/// Bindings: five that kernels read, then three that they write.
const READ: u32 = 5;
const BINDINGS: u32 = 8;

/// A device.
pub struct Gpu {
    pub device: Device,
    pub queue: Queue,
    pub limits: Limits,
    /// Kernels can be timed by its own clock.
    pub tells_time: bool,
    module: ShaderModule,
    pipelines: PipelineLayout,
    leave: OnceLock<ComputePipeline>,
    total: OnceLock<ComputePipeline>,
    finish: OnceLock<ComputePipeline>,
    layout: BindGroupLayout,
    failure: Arc<Mutex<Option<String>>>,
}

impl Gpu {
    /// Opens the adapter; `shader` is what it will run.
    ///
    /// # Errors
    /// Unavailable, with what the driver said.
    pub fn open(adapter: &wgpu::Adapter, shader: &str) -> Result<Gpu> {
        let own = adapter.limits();
        let required_limits = Limits {
            max_buffer_size: own.max_buffer_size,
            max_storage_buffer_binding_size: own.max_storage_buffer_binding_size,
            ..Limits::default()
        };
        let required_features = adapter.features() & Features::TIMESTAMP_QUERY;
        let label = Some("framemill");
        let descriptor = DeviceDescriptor { label, required_features, required_limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|e| Error::unavailable(format!("the device could not be opened: {e}")))?;
        let failure = Arc::new(Mutex::new(None));
        let keep = |failure: &Arc<Mutex<Option<String>>>| {
            let failure = failure.clone();
            move |what: String| {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
            }
        };
        let (error, lost) = (keep(&failure), keep(&failure));
        device.on_uncaptured_error(Arc::new(move |e: wgpu::Error| error(e.to_string())));
        device.set_device_lost_callback(move |reason, text| lost(format!("it was lost ({reason:?}) {text}")));
        let entries: Vec<_> = (0..BINDINGS).map(entry).collect();
        let layout = device.create_bind_group_layout(&BindGroupLayoutDescriptor { label: None, entries: &entries });
        let module = device.create_shader_module(ShaderModuleDescriptor {
            label: Some("framemill"),
            source: ShaderSource::Wgsl(shader.into()),
        });
        let pipelines = device.create_pipeline_layout(&PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let gpu = Gpu {
            limits: device.limits(),
            tells_time: required_features.contains(Features::TIMESTAMP_QUERY),
            device,
            queue,
            module,
            pipelines,
            leave: OnceLock::new(),
            total: OnceLock::new(),
            finish: OnceLock::new(),
            layout,
            failure,
        };
        gpu.check()?;
        Ok(gpu)
    }

    /// Whether the device is sound.
    ///
    /// # Errors
    /// Unavailable, with the first thing that failed on it.
    pub fn check(&self) -> Result<()> {
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(what) => Err(Error::unavailable(format!("the device failed: {what}"))),
            None => Ok(()),
        }
    }

    /// Marks the device as failed.
    pub fn fail(&self, what: &str) -> Error {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what.to_string());
        Error::unavailable(format!("the device failed: {what}"))
    }

    /// The kernel that a dispatch runs.
    pub fn kernel(&self, entry: Entry) -> &ComputePipeline {
        let (kernel, name) = match entry {
            Entry::Leave => (&self.leave, "leave"),
            Entry::Total => (&self.total, "total"),
            Entry::Finish => (&self.finish, "finish"),
        };
        let compile = || {
            self.device.create_compute_pipeline(&ComputePipelineDescriptor {
                label: Some(name),
                layout: Some(&self.pipelines),
                module: &self.module,
                entry_point: Some(name),
                compilation_options: Default::default(),
                cache: None,
            })
        };
        kernel.get_or_init(compile)
    }

    /// The buffers of one dispatch, in the order of the bindings.
    pub fn bind(&self, buffers: [wgpu::BufferBinding; BINDINGS as usize]) -> BindGroup {
        let resources = buffers.into_iter().map(wgpu::BindingResource::Buffer);
        let entries: Vec<BindGroupEntry> =
            resources.zip(0..).map(|(resource, binding)| BindGroupEntry { binding, resource }).collect();
        self.device.create_bind_group(&BindGroupDescriptor { label: None, layout: &self.layout, entries: &entries })
    }
}

fn entry(binding: u32) -> BindGroupLayoutEntry {
    BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer {
            ty: BufferBindingType::Storage { read_only: binding < READ },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
