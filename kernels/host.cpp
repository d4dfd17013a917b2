// The kernels as a program of the host: the same lines, a loop in place of a launch. It reads launches from standard input
// and writes what they leave to standard output, until the input ends; src/backend/cuda/host.rs speaks to it.
//
// Built with sanitizers it sees what a GPU would forgive: reads beyond a buffer, shifts that are too far, sums that overflow.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define __device__
#define __global__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define FRAMEMILL_HOST 1

struct Dim {
    unsigned x, y, z;
};
static Dim blockIdx, blockDim, threadIdx;

static void atomicAdd(unsigned *to, unsigned value) {
    *to += value;
}

#include "params.cu"
#include "convert.cu"
#include "picture.cu"
#include "color.cu"
#include "resize.cu"
#include "blur.cu"
#include "affine.cu"
#include "passes.cu"
#include "pack.cu"
#include "rows.cu"
#include "columns.cu"

// A kernel as its phases: what lies between two barriers.
typedef void (*Phase)(const Work &);

static void leave_phase(const Work &w) { leave(w); }
static void total_phase(const Work &w) { total(w); }
static void finish_phase(const Work &w) { finish(w); }

static void planes_phase(const Work &w) { planes(w); }
static void columns_phase(const Work &w) { columns(w); }

// Shared memory of a block.
static std::vector<u32> shared;

// What a phase of strips is given; a block below the picture does nothing.
template <u32 ROWS, typename Run> static void strip_phase(const Work &w, Run run) {
    const Pass &p = w.passes[blockIdx.z];
    if (blockIdx.x * ROWS < p.height) {
        run(p, strip(w, p));
    }
}

template <u32 ROWS> static void chroma_phase(const Work &w) {
    strip_phase<ROWS>(w, [&](const Pass &p, const Strip &s) { rows_chroma<ROWS>(w, p, s, shared.data()); });
}

template <u32 ROWS> static void convert_phase(const Work &w) {
    strip_phase<ROWS>(w, [&](const Pass &p, const Strip &s) { rows_convert<ROWS>(w, p, s, shared.data()); });
}

template <u32 ROWS> static void weigh_phase(const Work &w) {
    strip_phase<ROWS>(w, [&](const Pass &p, const Strip &s) { rows_weigh<ROWS>(w, p, s, shared.data()); });
}

// In the order of src/backend/cuda/flight.rs.
static const std::vector<Phase> KERNELS[] = {
    {leave_phase},
    {total_phase},
    {finish_phase},
    {chroma_phase<4>, convert_phase<4>, weigh_phase<4>},
    {chroma_phase<2>, convert_phase<2>, weigh_phase<2>},
    {planes_phase},
    {columns_phase},
};

static bool fill(void *to, size_t bytes) {
    return fread(to, 1, bytes, stdin) == bytes;
}

static void need(bool good, const char *what) {
    if (!good) {
        fprintf(stderr, "kernels: %s\n", what);
        exit(1);
    }
}

static void launch(const std::vector<Phase> &phases, const Work &w, Dim grid, Dim block) {
    blockDim = block;
    for (blockIdx.z = 0; blockIdx.z < grid.z; blockIdx.z++) {
        for (blockIdx.y = 0; blockIdx.y < grid.y; blockIdx.y++) {
            for (blockIdx.x = 0; blockIdx.x < grid.x; blockIdx.x++) {
                for (Phase phase : phases) {
                    for (threadIdx.y = 0; threadIdx.y < block.y; threadIdx.y++) {
                        for (threadIdx.x = 0; threadIdx.x < block.x; threadIdx.x++) {
                            phase(w);
                        }
                    }
                }
            }
        }
    }
}

// What one flight is made of; src/backend/cuda/host.rs writes it.
struct Head {
    u32 launches, sources, actions, tables, pixels, bytes, scratch, sums, tensors;
};

struct Launch {
    u32 kernel, passes, grid[3], block[2], shared;
};

// Parts of an upload in memory of their own, of their exact size, so that a sanitizer sees the end of each.
template <typename T> static std::vector<T> part(const std::vector<u8> &upload, u32 from, u32 to) {
    std::vector<T> out((to - from) / sizeof(T));
    memcpy(out.data(), upload.data() + from, out.size() * sizeof(T));
    return out;
}

int main() {
    Head head;
    while (fill(&head, sizeof head)) {
        std::vector<Launch> launches(head.launches);
        std::vector<u8> upload(head.bytes);
        need(fill(launches.data(), launches.size() * sizeof(Launch)), "launches are cut off");
        need(fill(upload.data(), upload.size()), "the upload is cut off");
        // Each launch has passes of its own, which do not follow each other without a gap.
        std::vector<u8> passes = part<u8>(upload, 0, head.sources);
        std::vector<Source> sources = part<Source>(upload, head.sources, head.actions);
        std::vector<Action> actions = part<Action>(upload, head.actions, head.tables);
        std::vector<u32> tables = part<u32>(upload, head.tables, head.pixels);
        std::vector<u8> pixels = part<u8>(upload, head.pixels, head.bytes);
        // Whatever was there before must not matter.
        std::vector<u32> scratch(head.scratch, 0xabababab), tensors(head.tensors, 0xcdcdcdcd), sums(head.sums, 0);
        for (const Launch &l : launches) {
            need(l.kernel < sizeof KERNELS / sizeof *KERNELS, "no such kernel");
            Work w = {
                (const Pass *)(passes.data() + l.passes), sources.data(), actions.data(), tables.data(),
                pixels.data(), scratch.data(), tensors.data(), sums.data(),
            };
            shared.assign(l.shared / 4, 0xefefefef);
            launch(KERNELS[l.kernel], w, {l.grid[0], l.grid[1], l.grid[2]}, {l.block[0], l.block[1], 1});
        }
        need(fwrite(tensors.data(), 4, tensors.size(), stdout) == tensors.size(), "the results were not taken");
        fflush(stdout);
    }
    return 0;
}
