// Upsample, pad, filter and downsample pictures; upfirdn2d.py says what that is.
//
// Output o of an axis is the sum over taps k of filter[k] * u[o * down + k - pad], where u is the picture with up - 1
// zeros behind each sample: only taps that meet a sample, every up-th, are visited.
//
// Three kernels. `SmallFilter` for 4 x 4 taps, up or down 2 or neither, `Line` for filters along one axis: both read a
// tile of the picture into shared memory. `General` for all else reads the picture itself. Pixels and planes are counted
// in 32 bits, offsets in 64: tensors may be of any size.

#pragma once

#include "element.h"

namespace torch_utils {

struct Upfirdn2d {
    const void* x;       // [batch, channels, in_y, in_x], contiguous or channels last
    const void* filter;  // [taps_y, taps_x], in the type of the sums
    void* y;             // [batch, channels, out_y, out_x] in the layout of x
    int batch, channels, in_y, in_x, out_y, out_x;
    int taps_y, taps_x, up_y, up_x, down_y, down_x;
    int pad_y, pad_x;  // before the first sample; negative crops
    Type type;
    bool channels_last;
    bool flip;  // true correlates, false convolves
    double gain;
};

constexpr int MAX_SHARED = 48 * 1024;  // bytes that every block may have without asking

HOST_DEVICE int divide_up(int a, int b) { return (a + b - 1) / b; }

HOST_DEVICE int floor_divide(int a, int b) { return a / b - (a % b < 0); }

// The tap that correlation multiplies with sample (ky, kx) of a window.
template <class A> HOST_DEVICE A tap(const Upfirdn2d& p, int ky, int kx) {
    if (!p.flip) ky = p.taps_y - 1 - ky, kx = p.taps_x - 1 - kx;
    return static_cast<const A*>(p.filter)[ky * p.taps_x + kx] * A(p.gain);
}

// The tile of a block: which planes, rows and columns of the result. A plane is a picture's channel. Contiguous tensors
// count planes from 0 on in `plane`; where channels are last, that is the picture, and `channel` the first channel.
struct Tile {
    int plane, channel, y, x;
};

// How many tiles of `planes` x rows x columns there are; rows and columns may begin before 0 by a skip.
template <bool LAST>
HOST_DEVICE int64_t count_tiles(const Upfirdn2d& p, int planes, int rows, int columns, int skip_y, int skip_x) {
    const int64_t in_plane = int64_t(divide_up(p.out_y + skip_y, rows)) * divide_up(p.out_x + skip_x, columns);
    if (LAST) return in_plane * p.batch * divide_up(p.channels, planes);
    return in_plane * divide_up(p.batch * p.channels, planes);
}

template <bool LAST>
HOST_DEVICE Tile find_tile(
    const Upfirdn2d& p, int64_t block, int planes, int rows, int columns, int skip_y, int skip_x) {
    // Neighbors in memory are neighbors in time: channels first where they are last.
    Tile tile{0, 0, 0, 0};
    if (LAST) {
        const int groups = divide_up(p.channels, planes);
        tile.channel = int(block % groups) * planes;
        block /= groups;
    }
    const int across = divide_up(p.out_x + skip_x, columns), down = divide_up(p.out_y + skip_y, rows);
    tile.x = int(block % across) * columns - skip_x;
    block /= across;
    tile.y = int(block % down) * rows - skip_y;
    block /= down;
    tile.plane = LAST ? int(block) : int(block) * planes;
    return tile;
}

// Whether plane `i` of a tile exists.
template <bool LAST> HOST_DEVICE bool has_plane(const Upfirdn2d& p, const Tile& tile, int i) {
    return LAST ? tile.channel + i < p.channels : tile.plane + i < p.batch * p.channels;
}

// Where pixel number `pixel` of plane `i` of a tile lies in memory; `size` is the number of pixels in a plane.
template <bool LAST>
HOST_DEVICE int64_t offset(const Upfirdn2d& p, const Tile& tile, int i, int pixel, int size) {
    if (LAST) return int64_t(tile.plane) * size * p.channels + tile.channel + i + int64_t(pixel) * p.channels;
    return int64_t(tile.plane + i) * size + pixel;
}

// COUNT elements that are read and written at once, and the same many sums.
template <int BYTES> struct Raw;
template <> struct Raw<2> { using type = uint16_t; };
template <> struct Raw<4> { using type = uint32_t; };
template <> struct Raw<8> { using type = uint64_t; };
template <class A, int COUNT> struct alignas(sizeof(A) * COUNT) Pack {
    A value[COUNT];
};

// Planes i to i + COUNT - 1 of a tile at that place of the picture; 0 beyond it.
template <class T, bool LAST, int COUNT = 1>
HOST_DEVICE Pack<Accumulated<T>, COUNT> read_samples(const Upfirdn2d& p, const Tile& tile, int i, int y, int x) {
    Pack<Accumulated<T>, COUNT> samples = {};
    if (y < 0 || y >= p.in_y || x < 0 || x >= p.in_x || !has_plane<LAST>(p, tile, i)) return samples;
    using Bits = typename Raw<sizeof(T) * COUNT>::type;
    const T* from = static_cast<const T*>(p.x) + offset<LAST>(p, tile, i, y * p.in_x + x, p.in_y * p.in_x);
    const Bits bits = *reinterpret_cast<const Bits*>(from);
    T values[COUNT];
    std::memcpy(values, &bits, sizeof bits);
    UNROLL for (int k = 0; k < COUNT; k++) samples.value[k] = widen<T>(values[k]);
    return samples;
}

template <class T, bool LAST, int COUNT = 1>
HOST_DEVICE void write_samples(
    const Upfirdn2d& p, const Tile& tile, int i, int y, int x, const Pack<Accumulated<T>, COUNT>& samples) {
    if (y < 0 || y >= p.out_y || x < 0 || x >= p.out_x || !has_plane<LAST>(p, tile, i)) return;
    using Bits = typename Raw<sizeof(T) * COUNT>::type;
    T values[COUNT];
    UNROLL for (int k = 0; k < COUNT; k++) values[k] = narrow<T>(samples.value[k]);
    Bits bits;
    std::memcpy(&bits, values, sizeof bits);
    T* to = static_cast<T*>(p.y) + offset<LAST>(p, tile, i, y * p.out_x + x, p.out_y * p.out_x);
    *reinterpret_cast<Bits*>(to) = bits;
}

// 4 x 4 taps, the same factors along both axes, one of them 1 and the other 1 or 2. A thread makes columns of four
// outputs, so that it reads what they share once, and keeps the filter in registers. Of 16-bit types with channels last
// it takes two channels at once.
template <class T, int UP, int DOWN, bool LAST, bool LARGE> struct SmallFilter {
    using A = Accumulated<T>;
    static constexpr int SHRINK = sizeof(A) / sizeof(float);
    static constexpr int TAPS = 4, HIGH = 4;  // HIGH: outputs of a thread, one above the other
    static constexpr int PACK = LAST && sizeof(T) == 2 ? 2 : 1;
    // Outputs of a tile, and packs of planes. Channels: a warp reads neighbors. Large pictures: a warp reads half a row.
    static constexpr int PACKS = LAST ? 32 / SHRINK : LARGE ? 1 : 8 / SHRINK;
    static constexpr int PLANES = PACKS * PACK;
    static constexpr int ROWS = LAST ? 16 / DOWN / PACK : LARGE ? 32 / SHRINK : 16;
    static constexpr int COLUMNS = LAST ? 8 : LARGE ? 64 : 16;
    // Samples of the picture that a tile needs.
    static constexpr int IN_ROWS = ((ROWS - 1) * DOWN + TAPS + UP - 1) / UP;
    static constexpr int IN_COLUMNS = ((COLUMNS - 1) * DOWN + TAPS + UP - 1) / UP;
    static constexpr int SAMPLES = PACKS * IN_ROWS * IN_COLUMNS;
    using Sample = Pack<A, PACK>;
    static_assert(SAMPLES * sizeof(Sample) <= MAX_SHARED, "the tile does not fit into shared memory");
    static_assert(ROWS % HIGH == 0 && THREADS % (LAST ? PACKS * COLUMNS : COLUMNS) == 0, "threads keep their column");

    // When upsampling, tiles begin where a sample meets the first tap, so that all of them look alike.
    HOST_DEVICE static int skip_y(const Upfirdn2d& p) { return UP == 2 ? p.pad_y & 1 : 0; }
    HOST_DEVICE static int skip_x(const Upfirdn2d& p) { return UP == 2 ? p.pad_x & 1 : 0; }

    static int64_t blocks(const Upfirdn2d& p) {
        return count_tiles<LAST>(p, PLANES, ROWS, COLUMNS, skip_y(p), skip_x(p));
    }
    static size_t shared_bytes(const Upfirdn2d&) { return SAMPLES * sizeof(Sample); }

    HOST_DEVICE static int place(int pack, int row, int column) {
        if (LAST) return (row * IN_COLUMNS + column) * PACKS + pack;
        return (pack * IN_ROWS + row) * IN_COLUMNS + column;
    }

    HOST_DEVICE static void load(const Upfirdn2d& p, int64_t block, int thread, A* shared) {
        const Tile tile = find_tile<LAST>(p, block, PLANES, ROWS, COLUMNS, skip_y(p), skip_x(p));
        const int top = (tile.y * DOWN - p.pad_y) / UP, left = (tile.x * DOWN - p.pad_x) / UP;  // no remainder
        Sample* samples = reinterpret_cast<Sample*>(shared);
        UNROLL_4 for (int i = thread; i < SAMPLES; i += THREADS) {
            int pack, row, column;
            if (LAST) {
                pack = i % PACKS, column = i / PACKS % IN_COLUMNS, row = i / (PACKS * IN_COLUMNS);
            } else {
                column = i % IN_COLUMNS, row = i / IN_COLUMNS % IN_ROWS, pack = i / (IN_COLUMNS * IN_ROWS);
            }
            samples[i] = read_samples<T, LAST, PACK>(p, tile, pack * PACK, top + row, left + column);
        }
    }

    HOST_DEVICE static void compute(const Upfirdn2d& p, int64_t block, int thread, const A* shared) {
        const Tile tile = find_tile<LAST>(p, block, PLANES, ROWS, COLUMNS, skip_y(p), skip_x(p));
        constexpr int SEEN = TAPS / UP;  // samples along x that an output sees
        const int column = LAST ? thread / PACKS % COLUMNS : thread % COLUMNS;
        const int phase = UP == 2 ? column & 1 : 0;  // the first tap that meets a sample
        const int first = (column * DOWN + phase) / UP;

        A filter[TAPS][SEEN];
        UNROLL for (int ky = 0; ky < TAPS; ky++) {
            UNROLL for (int j = 0; j < SEEN; j++) filter[ky][j] = tap<A>(p, ky, phase + j * UP);
        }

        const Sample* samples = reinterpret_cast<const Sample*>(shared);
        constexpr int STRIPS = PACKS * (ROWS / HIGH) * COLUMNS;
        for (int strip = thread; strip < STRIPS; strip += THREADS) {
            int pack, row;
            if (LAST) {
                pack = strip % PACKS, row = strip / (PACKS * COLUMNS) * HIGH;
            } else {
                row = strip / COLUMNS % (ROWS / HIGH) * HIGH, pack = strip / (COLUMNS * (ROWS / HIGH));
            }
            constexpr int READ = ((HIGH - 1) * DOWN + TAPS - 1) / UP + 1;  // samples along y that a strip sees
            Sample sum[HIGH] = {};
            UNROLL for (int j = 0; j < SEEN; j++) {
                UNROLL for (int i = 0; i < READ; i++) {
                    const Sample sample = samples[place(pack, row * DOWN / UP + i, first + j)];
                    UNROLL for (int r = 0; r < HIGH; r++) {
                        const int ky = i * UP - r * DOWN;
                        if (ky < 0 || ky >= TAPS) continue;
                        UNROLL for (int k = 0; k < PACK; k++) sum[r].value[k] += filter[ky][j] * sample.value[k];
                    }
                }
            }
            UNROLL for (int r = 0; r < HIGH; r++) {
                write_samples<T, LAST, PACK>(p, tile, pack * PACK, tile.y + row + r, tile.x + column, sum[r]);
            }
        }
    }

    static bool fits(const Upfirdn2d& p) {
        const bool factors = p.up_y == UP && p.up_x == UP && p.down_y == DOWN && p.down_x == DOWN;
        const uintptr_t addresses = reinterpret_cast<uintptr_t>(p.x) | reinterpret_cast<uintptr_t>(p.y);
        const bool packs = p.channels % PACK == 0 && addresses % (sizeof(T) * PACK) == 0;
        return factors && p.taps_y == TAPS && p.taps_x == TAPS && p.channels_last == LAST && (!LAST || packs);
    }
};

// A filter along one axis, of any length and with any factors, that leaves the other axis alone.
template <class T, bool LAST, bool ALONG_X> struct Line {
    using A = Accumulated<T>;
    static constexpr int WIDE = 2;  // outputs of a thread, side by side across the filter: they share its taps
    static constexpr int PLANES = LAST ? 32 : 1;
    // Outputs of a tile along the filter and across it.
    static constexpr int LENGTH = LAST ? 16 : ALONG_X ? 64 : 16;
    static constexpr int LINES = LAST ? 4 : ALONG_X ? 16 : 64;
    static constexpr int ROWS = ALONG_X ? LINES : LENGTH, COLUMNS = ALONG_X ? LENGTH : LINES;

    HOST_DEVICE static int taps(const Upfirdn2d& p) { return ALONG_X ? p.taps_x : p.taps_y; }
    HOST_DEVICE static int up(const Upfirdn2d& p) { return ALONG_X ? p.up_x : p.up_y; }
    HOST_DEVICE static int down(const Upfirdn2d& p) { return ALONG_X ? p.down_x : p.down_y; }
    HOST_DEVICE static int pad(const Upfirdn2d& p) { return ALONG_X ? p.pad_x : p.pad_y; }

    // Samples along the filter that a tile needs.
    HOST_DEVICE static int in_length(const Upfirdn2d& p) {
        return divide_up((LENGTH - 1) * down(p) + taps(p), up(p));
    }

    static int64_t blocks(const Upfirdn2d& p) { return count_tiles<LAST>(p, PLANES, ROWS, COLUMNS, 0, 0); }
    static size_t shared_bytes(const Upfirdn2d& p) {
        return (size_t(in_length(p)) * LINES * PLANES + taps(p)) * sizeof(A);  // samples, then taps
    }

    HOST_DEVICE static int place(int plane, int row, int column, int in_columns) {
        return LAST ? (row * in_columns + column) * PLANES + plane : row * in_columns + column;
    }

    // The first sample of the picture at or behind the first tap of the tile's first output.
    HOST_DEVICE static int first_sample(const Upfirdn2d& p, const Tile& tile) {
        const int start = (ALONG_X ? tile.x : tile.y) * down(p) - pad(p);
        return floor_divide(start + up(p) - 1, up(p));
    }

    HOST_DEVICE static void load(const Upfirdn2d& p, int64_t block, int thread, A* shared) {
        const Tile tile = find_tile<LAST>(p, block, PLANES, ROWS, COLUMNS, 0, 0);
        const int in_rows = ALONG_X ? ROWS : in_length(p), in_columns = ALONG_X ? in_length(p) : COLUMNS;
        const int top = ALONG_X ? tile.y : first_sample(p, tile), left = ALONG_X ? first_sample(p, tile) : tile.x;
        const int samples = in_rows * in_columns * PLANES;
        for (int i = thread; i < samples; i += THREADS) {
            const int plane = i % PLANES, pixel = i / PLANES;
            const int row = pixel / in_columns, column = pixel - row * in_columns;
            shared[i] = read_samples<T, LAST>(p, tile, plane, top + row, left + column).value[0];
        }
        for (int k = thread; k < taps(p); k += THREADS) shared[samples + k] = tap<A>(p, ALONG_X ? 0 : k, ALONG_X ? k : 0);
    }

    HOST_DEVICE static void compute(const Upfirdn2d& p, int64_t block, int thread, const A* shared) {
        const Tile tile = find_tile<LAST>(p, block, PLANES, ROWS, COLUMNS, 0, 0);
        const int in_columns = ALONG_X ? in_length(p) : COLUMNS;
        const A* filter = shared + (ALONG_X ? ROWS : in_length(p)) * in_columns * PLANES;
        const int length = taps(p), step = up(p), first = first_sample(p, tile);
        const int next = place(0, ALONG_X ? 0 : 1, ALONG_X ? 1 : 0, in_columns);

        constexpr int ITEMS = PLANES * LENGTH * (LINES / WIDE);
        for (int item = thread; item < ITEMS; item += THREADS) {
            // Neighboring threads make neighbors in memory.
            const int plane = item % PLANES, pixel = item / PLANES;
            constexpr int IN_ROW = ALONG_X ? COLUMNS : COLUMNS / WIDE;
            const int row = pixel / IN_ROW, column = pixel % IN_ROW;
            const int start = (ALONG_X ? tile.x + column : tile.y + row) * down(p) - pad(p);
            const int sample = floor_divide(start + step - 1, step);  // the first that it sees
            const int from = place(plane, ALONG_X ? row : sample - first, ALONG_X ? sample - first : column, in_columns);
            const int apart = place(0, ALONG_X ? ROWS / WIDE : 0, ALONG_X ? 0 : COLUMNS / WIDE, in_columns);

            A sum[WIDE] = {};
            const A* read = shared + from;
            for (int k = sample * step - start; k < length; k += step, read += next) {
                UNROLL for (int w = 0; w < WIDE; w++) sum[w] += filter[k] * read[w * apart];
            }
            UNROLL for (int w = 0; w < WIDE; w++) {
                const int y = tile.y + row + (ALONG_X ? w * (ROWS / WIDE) : 0);
                const int x = tile.x + column + (ALONG_X ? 0 : w * (COLUMNS / WIDE));
                write_samples<T, LAST>(p, tile, plane, y, x, {{sum[w]}});
            }
        }
    }

    static bool fits(const Upfirdn2d& p) {
        const bool along_x = p.taps_y == 1 && p.up_y == 1 && p.down_y == 1 && p.pad_y == 0 && p.out_y == p.in_y;
        const bool along_y = p.taps_x == 1 && p.up_x == 1 && p.down_x == 1 && p.pad_x == 0 && p.out_x == p.in_x;
        return (ALONG_X ? along_x : along_y) && p.channels_last == LAST && shared_bytes(p) <= MAX_SHARED;
    }
};

// Everything: one output per thread, straight from the picture.
template <class T, bool LAST> struct General {
    using A = Accumulated<T>;

    HOST_DEVICE static int64_t count(const Upfirdn2d& p) { return int64_t(p.batch) * p.channels * p.out_y * p.out_x; }
    static int64_t blocks(const Upfirdn2d& p) { return (count(p) + THREADS - 1) / THREADS; }
    static size_t shared_bytes(const Upfirdn2d&) { return 0; }

    HOST_DEVICE static void load(const Upfirdn2d&, int64_t, int, A*) {}

    HOST_DEVICE static void compute(const Upfirdn2d& p, int64_t block, int thread, const A*) {
        int64_t rest = block * THREADS + thread;
        Tile tile{0, 0, 0, 0};
        if (rest >= count(p)) return;
        if (LAST) {
            tile.channel = int(rest % p.channels);
            rest /= p.channels;
        }
        tile.x = int(rest % p.out_x);
        rest /= p.out_x;
        tile.y = int(rest % p.out_y);
        tile.plane = int(rest / p.out_y);

        const int start_y = tile.y * p.down_y - p.pad_y, start_x = tile.x * p.down_x - p.pad_x;
        const int top = floor_divide(start_y + p.up_y - 1, p.up_y), left = floor_divide(start_x + p.up_x - 1, p.up_x);
        A sum = 0;
        for (int y = top, ky = top * p.up_y - start_y; ky < p.taps_y; y++, ky += p.up_y) {
            for (int x = left, kx = left * p.up_x - start_x; kx < p.taps_x; x++, kx += p.up_x) {
                sum += tap<A>(p, ky, kx) * read_samples<T, LAST>(p, tile, 0, y, x).value[0];
            }
        }
        write_samples<T, LAST>(p, tile, 0, tile.y, tile.x, {{sum}});
    }
};

// Tiles of this many channels would be mostly empty for fewer, such as the three of a picture with channels last.
constexpr int MIN_CHANNELS_LAST = 12;
// Where a result is at most this large, a tile holds several planes of it.
constexpr int SMALL_PICTURE = 32;

template <class Kernel, class Launch> bool launch_if_it_fits(const Upfirdn2d& p, Launch& launch) {
    if (!Kernel::fits(p)) return false;
    launch.template run<Kernel>(p);
    return true;
}

template <class T, int UP, int DOWN, class Launch> bool launch_small_filter(const Upfirdn2d& p, Launch& launch) {
    if (p.channels_last) return launch_if_it_fits<SmallFilter<T, UP, DOWN, true, false>>(p, launch);
    if (p.out_x <= SMALL_PICTURE) return launch_if_it_fits<SmallFilter<T, UP, DOWN, false, false>>(p, launch);
    return launch_if_it_fits<SmallFilter<T, UP, DOWN, false, true>>(p, launch);
}

template <class T, bool LAST, class Launch> bool launch_line(const Upfirdn2d& p, Launch& launch) {
    return launch_if_it_fits<Line<T, LAST, true>>(p, launch) || launch_if_it_fits<Line<T, LAST, false>>(p, launch);
}

// Give `launch` the kernel for p: launch.template run<Kernel>(p).
template <class T, class Launch> void dispatch_upfirdn2d(const Upfirdn2d& p, Launch& launch) {
    const bool tiles = !p.channels_last || p.channels >= MIN_CHANNELS_LAST;
    if (tiles && launch_small_filter<T, 1, 1>(p, launch)) return;
    if (tiles && launch_small_filter<T, 2, 1>(p, launch)) return;
    if (tiles && launch_small_filter<T, 1, 2>(p, launch)) return;
    if (tiles && (p.channels_last ? launch_line<T, true>(p, launch) : launch_line<T, false>(p, launch))) return;
    if (p.channels_last) return launch.template run<General<T, true>>(p);
    launch.template run<General<T, false>>(p);
}

}  // namespace torch_utils
