//! MD5 (RFC 1321), only to compare with the checksums that FFmpeg's `framemd5` wrote.

/// The digest as 32 hex digits.
pub fn md5(data: &[u8]) -> String {
    let mut state = [0x67452301u32, 0xefcdab89, 0x98badcfe, 0x10325476];
    let table: [u32; 64] = std::array::from_fn(|i| ((i as f64 + 1.0).sin().abs() * 4294967296.0) as u32);
    let blocks = data.chunks_exact(64);
    let mut tail = blocks.remainder().to_vec();
    blocks.for_each(|block| round(&mut state, block, &table));
    tail.push(0x80);
    tail.resize(
        tail.len().next_multiple_of(64) + if tail.len().next_multiple_of(64) - tail.len() < 8 { 64 } else { 0 },
        0,
    );
    let at = tail.len() - 8;
    tail[at..].copy_from_slice(&(data.len() as u64 * 8).to_le_bytes());
    tail.chunks_exact(64).for_each(|block| round(&mut state, block, &table));
    state.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
}

fn round(state: &mut [u32; 4], block: &[u8], table: &[u32; 64]) {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let word = |i: usize| u32::from_le_bytes([block[i * 4], block[i * 4 + 1], block[i * 4 + 2], block[i * 4 + 3]]);
    let [mut a, mut b, mut c, mut d] = *state;
    for i in 0..64 {
        let (mixed, at) = match i / 16 {
            0 => ((b & c) | (!b & d), i),
            1 => ((d & b) | (!d & c), (5 * i + 1) % 16),
            2 => (b ^ c ^ d, (3 * i + 5) % 16),
            _ => (c ^ (b | !d), (7 * i) % 16),
        };
        let sum = a.wrapping_add(mixed).wrapping_add(table[i]).wrapping_add(word(at));
        (a, d, c, b) = (d, c, b, b.wrapping_add(sum.rotate_left(SHIFTS[i / 16][i % 4])));
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}

#[test]
fn md5_of_the_rfc() {
    assert_eq!(md5(b""), "d41d8cd98f00b204e9800998ecf8427e");
    assert_eq!(md5(b"message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    let digits = "12345678901234567890123456789012345678901234567890123456789012345678901234567890";
    assert_eq!(md5(digits.as_bytes()), "57edf4a22be3c955ac49da2e2107b67a");
}
