//! The kernels as they are in the program. `scripts/kernels.py` makes them from `kernels/*.cu`; a test makes them again.

/// PTX for compute capability 7.0: what every later device can compile.
const PTX: &str = concat!(include_str!("../../../kernels/framemill.ptx"), "\0");

/// Machine code by compute capability.
const CODE: [((u32, u32), &[u8]); 4] = [
    ((8, 0), include_bytes!("../../../kernels/framemill.sm_80.cubin")),
    ((8, 6), include_bytes!("../../../kernels/framemill.sm_86.cubin")),
    ((8, 9), include_bytes!("../../../kernels/framemill.sm_89.cubin")),
    ((9, 0), include_bytes!("../../../kernels/framemill.sm_90.cubin")),
];

/// What a device of this compute capability may load, the best first.
pub fn of(capability: (u32, u32)) -> Vec<&'static [u8]> {
    let code = CODE.iter().filter(|(own, _)| *own == capability).map(|(_, code)| *code);
    code.chain([PTX.as_bytes()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_gets_something_and_ptx_comes_last() {
        assert_eq!(of((9, 0)).len(), 2);
        assert_eq!(of((12, 0)).len(), 1);
        for capability in [(7, 0), (8, 0), (9, 0)] {
            let images = of(capability);
            let ptx = images[images.len() - 1];
            assert!(ptx.starts_with(b"//") && ptx.ends_with(b"}\n\n\0"), "ends as text");
            assert!(images[..images.len() - 1].iter().all(|image| image.starts_with(b"\x7fELF")));
        }
    }
}
