//! Which adapters this machine has, and which one is meant.

use wgpu::{Backends, DeviceType, Instance, InstanceDescriptor, InstanceFlags};

use crate::error::{Error, Result};

/// A GPU, or a program that takes its place, as wgpu finds it.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Its number, as in `--device wgpu:0`.
    pub index: usize,
    /// The name that its driver gives.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// Runs on the CPU (llvmpipe, WARP).
    pub software: bool,
    /// The interface that it is spoken to by.
    pub backend: String,
    /// The driver with its version.
    pub driver: String,
    /// Bytes of the largest buffer.
    pub max_buffer: u64,
    /// Bytes of the largest part of a buffer that a kernel can read.
    pub max_binding: u64,
    pub(super) handle: wgpu::Adapter,
}

/// All adapters. Metal's and Direct3D's are found on their systems.
pub fn list() -> Vec<Adapter> {
    let instance = Instance::new(InstanceDescriptor {
        backends: Backends::VULKAN | Backends::METAL | Backends::DX12,
        // In debug builds too: validation layers write to standard error where they are installed.
        flags: InstanceFlags::empty(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    let found = pollster::block_on(instance.enumerate_adapters(Backends::all()));
    found.into_iter().enumerate().map(|(index, handle)| describe(index, handle)).collect()
}

fn describe(index: usize, handle: wgpu::Adapter) -> Adapter {
    let (info, limits) = (handle.get_info(), handle.limits());
    let kind = match info.device_type {
        DeviceType::DiscreteGpu => "discrete GPU",
        DeviceType::IntegratedGpu => "integrated GPU",
        DeviceType::VirtualGpu => "virtual GPU",
        DeviceType::Cpu => "software",
        DeviceType::Other => "other",
    };
    Adapter {
        index,
        name: info.name,
        kind,
        software: info.device_type == DeviceType::Cpu,
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        max_buffer: limits.max_buffer_size,
        max_binding: limits.max_storage_buffer_binding_size,
        handle,
    }
}

/// How much an adapter is to be preferred: the less, the more.
fn rank(adapter: &Adapter) -> usize {
    let order = ["discrete GPU", "integrated GPU", "virtual GPU", "other"];
    order.iter().position(|kind| *kind == adapter.kind).unwrap_or(order.len())
}

/// Adapter `index`, or the best one; `software` says whether one on the CPU will do.
///
/// # Errors
/// Unavailable, with what there is and what to install.
pub fn choose(index: Option<usize>, software: bool) -> Result<Adapter> {
    let mut all = list();
    if all.is_empty() {
        return Err(Error::unavailable(MISSING));
    }
    let Some(index) = index else {
        let best = all.into_iter().filter(|a| software || !a.software).min_by_key(rank);
        return best.ok_or_else(|| Error::unavailable("no GPU was found, only software that takes its place"));
    };
    if index >= all.len() {
        return Err(Error::unavailable(format!("there is no adapter {index}, only 0 to {}", all.len() - 1)));
    }
    Ok(all.swap_remove(index))
}

/// What to do where no adapter is found.
pub const MISSING: &str = "no Vulkan, Metal or Direct3D 12 adapter was found: install the GPU's driver and the Vulkan \
    loader (Debian, Ubuntu: libvulkan1), or mesa-vulkan-drivers for a software adapter to test with";
