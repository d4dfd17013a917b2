//! The shaders as naga reads them: their blocks lie as Rust's do, their constants are Rust's, and they compute on 32-bit
//! integers without a division, so that no device can differ.

#[path = "common/blocks.rs"]
#[macro_use]
mod blocks;

use framemill::program::params::{self, Action, Axis, Pass, Source, Taps};
use naga::{BinaryOperator, Expression, Literal, Module, ScalarKind, Statement, TypeInner};

const FILES: [&str; 9] = ["params", "convert", "picture", "color", "resize", "blur", "affine", "passes", "pack"];

fn parse(text: &str) -> Module {
    naga::front::wgsl::parse_str(text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(text)))
}

fn shaders() -> Module {
    let read =
        |name: &&str| std::fs::read_to_string(format!("{}/shaders/{name}.wgsl", env!("CARGO_MANIFEST_DIR"))).unwrap();
    parse(&FILES.iter().map(read).collect::<String>())
}

/// Name, offset and size of every member of a struct of the shaders, and the size of the whole.
fn layout(module: &Module, name: &str) -> (Vec<(String, u32, u32)>, u32) {
    let found = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some(name));
    let (_, ty) = found.unwrap_or_else(|| panic!("no struct {name}"));
    let TypeInner::Struct { members, span } = &ty.inner else { panic!("{name} is no struct") };
    let size = |member: &naga::StructMember| module.types[member.ty].inner.size(module.to_ctx());
    (members.iter().map(|m| (m.name.clone().unwrap(), m.offset, size(m))).collect(), *span)
}

macro_rules! same_layout {
    ($module:expr, $block:ident { $($field:ident),* $(,)? }) => {{
        let block = $block::default();
        let ours = vec![$((stringify!($field).to_string(), std::mem::offset_of!($block, $field) as u32,
            size_of_val(&block.$field) as u32)),*];
        assert_eq!(layout($module, stringify!($block)), (ours, size_of::<$block>() as u32), stringify!($block));
    }};
}

#[test]
fn blocks_lie_alike() {
    let module = shaders();
    every_block!(same_layout, &module);
}

#[test]
fn constants_are_the_same() {
    let module = shaders();
    let value = |name: &str| {
        let found = module.constants.iter().find(|(_, c)| c.name.as_deref() == Some(name));
        let (_, constant) = found.unwrap_or_else(|| panic!("no constant {name}"));
        match module.global_expressions[constant.init] {
            Expression::Literal(Literal::U32(value)) => value,
            Expression::Literal(Literal::I32(value)) => value as u32,
            ref other => panic!("{name}: {other:?}"),
        }
    };
    for (name, ours) in params::KINDS {
        assert_eq!(value(name), *ours, "{name}");
    }
    assert_eq!(value("NONE"), params::NONE);
    assert_eq!(value("TONE_CODES"), 1 << framemill::program::tonemap::DEPTH);
    assert_eq!(value("CUBE_FRACTION"), framemill::program::lut::FRACTION);
    assert_eq!(value("NODE_FRACTION"), framemill::program::lut::NODE_FRACTION);
    assert_eq!(value("BLUR_FRACTION"), framemill::program::blur::FRACTION);
    assert_eq!(value("BLUR_BETWEEN"), framemill::program::blur::BETWEEN);
    assert_eq!(value("AFFINE_FRACTION"), framemill::program::affine::FRACTION);
    assert_eq!(value("PRECISION"), framemill::program::resample::PRECISION);
    assert_eq!(value("HALF") as i32, framemill::program::resample::HALF);
}

/// What could differ between devices in a module: float types and literals, divisions, remainders.
fn faults(module: &Module) -> Vec<String> {
    let mut faults = Vec::new();
    let float = |kind: ScalarKind| !matches!(kind, ScalarKind::Sint | ScalarKind::Uint | ScalarKind::Bool);
    for (_, ty) in module.types.iter() {
        let (TypeInner::Scalar(scalar) | TypeInner::Vector { scalar, .. } | TypeInner::Matrix { scalar, .. }) =
            ty.inner
        else {
            continue;
        };
        if float(scalar.kind) || scalar.width > 4 {
            faults.push(format!("a type of {scalar:?}"));
        }
    }
    let expressions = |arena: &naga::Arena<Expression>, place: &str, faults: &mut Vec<String>| {
        for (_, expression) in arena.iter() {
            match expression {
                Expression::Binary { op: op @ (BinaryOperator::Divide | BinaryOperator::Modulo), .. } => {
                    faults.push(format!("{place}: {op:?}"));
                }
                Expression::Literal(literal)
                    if !matches!(literal, Literal::U32(_) | Literal::I32(_) | Literal::Bool(_)) =>
                {
                    faults.push(format!("{place}: {literal:?}"));
                }
                Expression::As { kind, .. } if float(*kind) => faults.push(format!("{place}: a cast to {kind:?}")),
                _ => {}
            }
        }
    };
    expressions(&module.global_expressions, "constants", &mut faults);
    let entries = module.entry_points.iter().map(|e| (e.name.as_str(), &e.function));
    let functions = module.functions.iter().map(|(_, f)| (f.name.as_deref().unwrap_or("?"), f));
    for (name, function) in functions.chain(entries) {
        expressions(&function.expressions, name, &mut faults);
        assert!(!function.body.iter().any(|s| matches!(s, Statement::Kill)), "{name}");
    }
    faults
}

#[test]
fn only_integers_and_no_division() {
    let faults = faults(&shaders());
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The negative control.
#[test]
fn what_is_forbidden_is_seen() {
    for text in [
        "fn f(x: i32) -> i32 { return x / 3; }",
        "fn f(x: u32) -> u32 { return x % 3u; }",
        "fn f(x: u32) -> u32 { return u32(f32(x)); }",
        "fn f(x: f32) -> f32 { return x; }",
        "var<private> a: vec3<f32>;",
        "const C: f32 = 1.0;",
    ] {
        assert!(!faults(&parse(text)).is_empty(), "{text}");
    }
}
