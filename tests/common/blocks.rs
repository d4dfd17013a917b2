//! The fields of every parameter block, once for all languages that have to lay them out alike.

/// Calls `$each!($arguments..., Block { fields })` for every block of `program::params`.
macro_rules! every_block {
    ($each:ident, $($argument:expr),*) => {
        $each!($($argument,)* Taps { table, weights, stride, first, row, digits, groups, count });
        $each!($($argument,)* Axis { sub, bits, offset, last });
        $each!($($argument,)* Source {
            kind, offset, stride, step, chroma_step, low, address, mask, table, last, x, y, shift, most, tone, nodes,
            matrix, constant,
        });
        $each!($($argument,)* Action { kind, x, y, width, height, fill, amount, table, size });
        $each!($($argument,)* Pass {
            kind, x, y, width, height, to, to_row, to_plane, write_first, write_end, source, read_first, read_end,
            input, input_row, input_x, input_y, taps, chroma, element, planar, table, side_x, side_y, fill, sum,
        });
    };
}
