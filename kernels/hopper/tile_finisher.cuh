#pragma once
// What becomes of a tile's sums: added up over the teams of the block and the blocks that share the tile,
// scaled, rounded and written. Until they are written they stay as the tensor cores left them: what thread
// and register belong to is the same in every team and block, so that what is sent and added are whole quads
// of a lane.

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "kernels/device/cluster.cuh"
#include "kernels/device/cp_async.cuh"
#include "kernels/device/decode.cuh"
#include "kernels/device/decode8.cuh"
#include "kernels/device/mbarrier.cuh"
#include "kernels/device/mma.cuh"
#include "kernels/hopper/stage_copier.cuh"
#include "kernels/hopper/warp_place.cuh"

namespace mpk {

__device__ __forceinline__ float4 operator+(float4 a, float4 b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

/// Is the tile cut into parts, whose blocks are a cluster?
__device__ __forceinline__ bool in_cluster(const Partition& p, int tile) {
  return p.parts > 1 && tile >= p.whole_tiles();
}

/// Consecutive numbers dealt out to the blocks of a cluster.
struct ClusterShares {
  int count, each;
  float per_each;
  ClusterShares() = default;
  __device__ __forceinline__ ClusterShares(int numbers, const Divisor& blocks) : count{numbers} {
    each = (numbers + blocks - 1) / blocks;
    per_each = __fdividef(1.0f, static_cast<float>(each));
  }
  __device__ __forceinline__ int owner(int number) const {
    return static_cast<int>((static_cast<float>(number) + 0.5f) * per_each);
  }
  __device__ __forceinline__ int of(int block) const { return max(0, min(each, count - block * each)); }
};

/// The thread's index, asked anew: so that what follows from it does not take registers from the code that
/// multiplies.
__device__ __forceinline__ int thread_asked_anew() {
  int thread = static_cast<int>(threadIdx.x);
  asm volatile("" : "+r"(thread));
  return thread;
}

template <class T>
struct TileFinisher : WarpPlace<T> {
  using Place = WarpPlace<T>;
  using Place::lane, Place::team, Place::warp_of_team, Place::tile_of_warp, Place::sharer,
      Place::first_fragment, Place::fragment_of_row, Place::kRowsTogether;
  const HopperArgs& args;
  const HopperMemory<T> memory;
  const float (&acc)[T::kFragments][T::kTileM / 2];
  const int thread;

  __device__ __forceinline__ TileFinisher(const HopperArgs& a, const HopperMemory<T>& m,
                                          const float (&sums)[T::kFragments][T::kTileM / 2], int t)
      : Place{t}, args{a}, memory{m}, acc{sums}, thread{t} {}

  /// Those that multiply meet.
  __device__ __forceinline__ void sync() const {
    asm volatile("bar.sync 1, %0;" ::"n"(T::kConsumers) : "memory");
  }

  /// A quad is a lane's four sums of eight rows of a fragment: rows 2 (lane % 4) and one more of column lane
  /// / 4, then of the column eight further on. Quad q: rows from 8 (q / kFragments) on, fragment q %
  /// kFragments.
  static constexpr int kQuads = T::kQuads;
  __device__ __forceinline__ float4 quad(int q) const {
    const float(&v)[T::kTileM / 2] = acc[q % T::kFragments];
    const int i = q / T::kFragments * 4;
    return {v[i], v[i + 1], v[i + 2], v[i + 3]};
  }
  /// Those that a team adds up and its block may write: quads team, team + kTeams, ...; of two teams the
  /// first or the second half.
  static constexpr int kOwn = T::kOwnQuads;
  /// All that add_teams() counts in pieces.
  static constexpr int kAll = T::kAllQuads;
  struct Own {
    float4 of[kOwn];
    std::uint32_t written = 0;  ///< bit i: of[i] is this block's to write
  };
  static constexpr MPK_HOST_DEVICE int quad_of(int own, int team) {
    return T::kTeams == 2 ? team * kOwn + own : own * T::kTeams + team;
  }
  __device__ __forceinline__ int quad_of(int own) const { return quad_of(own, team); }
  /// So many loads are under way together, as far as registers allow.
  static constexpr int kAtOnce = kOwn % 4 == 0 && kOwn < 16 ? 4 : kOwn % 2 == 0 ? 2 : 1;
  static_assert(kOwn % kAtOnce == 0);

  /// The teams' sums, added up in order. Through shared memory from `at` on, kPiece quads at a time: of two
  /// teams those that each sends, else of all. `live`: see live_quads().
  template <int kPiece>
  __device__ __forceinline__ Own add_teams(std::uint32_t at, int live) const {
    Own own;
    if constexpr (T::kTeams == 1) {
#pragma unroll
      for (int i = 0; i < kOwn; ++i) own.of[i] = quad(i);
    } else if constexpr (T::kTeams == 2) {
#pragma unroll
      for (int first = 0; first < kOwn; first += kPiece) exchange_with_other_team<kPiece>(at, first, own);
    } else {
      for (float4& v : own.of) v = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int first = 0; first < kQuads; first += kPiece) add_many_teams<kPiece>(at, first, own);
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      if (quad_of(i) < live) own.written |= 1u << i;
    return own;
  }
  /// Of quads from `first` on every team leaves its sums, and adds up what is its own.
  template <int kPiece>
  __device__ __forceinline__ void add_many_teams(std::uint32_t at, int first, Own& own) const {
    const auto place = [&](int q, int of_thread) {
      return at + ((q - first) * T::kConsumers + of_thread) * 16;
    };
    sync();  // nobody still reads what is overwritten
#pragma unroll
    for (int q = first; q < first + kPiece; ++q) store_shared(place(q, thread), quad(q));
    sync();
#pragma unroll
    for (int i = first / T::kTeams; i * T::kTeams < first + kPiece; ++i) {
      const int q = quad_of(i);
      if (kPiece % T::kTeams != 0 && (q < first || q >= first + kPiece)) continue;
      float4 sum = load_shared_floats(place(q, warp_of_team * kWarpSize + lane));
#pragma unroll
      for (int t = 1; t < T::kTeams; ++t)
        sum = sum + load_shared_floats(place(q, (t * T::kTeamWarps + warp_of_team) * kWarpSize + lane));
      own.of[i] = sum;
    }
  }
  /// Of two teams each keeps its half, and sends the other's. Two pieces of code, so that what is kept and
  /// sent are registers that need not be picked.
  template <int kPiece>
  __device__ __forceinline__ void exchange_with_other_team(std::uint32_t at, int first, Own& own) const {
    constexpr int kHalf = T::kConsumers / 2;
    const auto place = [&](int i, int of_thread) {
      return at + ((i - first) * T::kConsumers + of_thread) * 16;
    };
    const auto exchange = [&]<bool kSecond>() {
      sync();  // nobody still reads what is overwritten
#pragma unroll
      for (int i = first; i < first + kPiece; ++i)
        store_shared(place(i, kSecond ? thread - kHalf : thread + kHalf), quad(kSecond ? i : kOwn + i));
      sync();
#pragma unroll
      for (int i = first; i < first + kPiece; ++i)
        own.of[i] = quad(kSecond ? kOwn + i : i) + load_shared_floats(place(i, thread));
    };
    if (team == 0)
      exchange.template operator()<false>();
    else
      exchange.template operator()<true>();
  }

  /// Whole quads of all warps of a tile of 64 columns go to one block of a cluster.
  __device__ __forceinline__ int number_of(int q) const {
    return q * T::kTilesN + tile_of_warp;
  }
  __device__ __forceinline__ ClusterShares shares(int live) const {
    return {live * T::kTilesN, args.partition.parts_of_tile};
  }

  /// A tile whose blocks are a cluster: every block sends the others their shares of its sums, and adds to
  /// its own what it gets, in the order of the blocks. It waits for nothing else, and nobody reads its
  /// memory.
  __device__ __forceinline__ void push_in_cluster(Own& own, const ClusterShares& shares, int rows) const {
    const int parts = args.partition.parts, rank = cluster_rank();
    constexpr int kBytes = T::kQuadBytes;
    const int at = (sharer * kWarpSize + lane) * 16;
    // Of eight rows a fourth of the lanes has the first two.
    const int fourths = T::kTileM == 8 ? min((rows + 1) / 2, 4) : 4;
    if (thread == 0)
      barrier_arrive_expect(memory.pushed_barrier(), (parts - 1) * shares.of(rank) * (kBytes / 4 * fourths));
    cluster_wait();  // all have arrived when they began their part
    const std::uint32_t sent = own.written;
    own.written = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (!(sent >> i & 1)) continue;
      const int number = number_of(quad_of(i)), owner = shares.owner(number);
      if (owner == rank)
        own.written |= 1u << i;
      else if (lane % 4 < fourths)
        push_remote(
            memory.behind_ring() + ((rank - (rank > owner) - owner) * shares.each + number) * kBytes + at,
            memory.pushed_barrier(), owner, own.of[i]);
    }
    barrier_wait(memory.pushed_barrier(), 0);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (!(own.written >> i & 1)) continue;
      std::uint32_t from = memory.behind_ring() + (number_of(quad_of(i)) - rank * shares.each) * kBytes + at;
#pragma unroll 4
      for (int other = 1; other < parts; ++other, from += shares.each * kBytes)
        own.of[i] = own.of[i] + load_shared_floats(from);
    }
  }
  /// The same, where the sums are many: every block leaves what is not its own where the ring was, and reads
  /// its share from the others' memory, from the block behind it on and round, so that not all read one's.
  __device__ __forceinline__ void pull_in_cluster(Own& own, const ClusterShares& shares) const {
    const int parts = args.partition.parts, rank = cluster_rank();
    const std::uint32_t sent = own.written;
    own.written = 0;
    sync();  // nobody still reads the ring, or the teams' sums
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (!(sent >> i & 1)) continue;
      if (shares.owner(number_of(quad_of(i))) == rank)
        own.written |= 1u << i;
      else
        store_shared(memory.ring() + (i * T::kConsumers + thread) * 16, own.of[i]);
    }
    sync();
    if (thread == 0) cluster_release();
    __syncwarp();
    cluster_arrive();
    cluster_wait();
#pragma unroll
    for (int start = 0; start < kOwn; start += kAtOnce)
      for (int step = 1; step < parts; ++step) {
        const int other = rank + step < parts ? rank + step : rank + step - parts;
        float4 v[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
          if (own.written >> (start + i) & 1)
            v[i] = load_remote(memory.ring() + ((start + i) * T::kConsumers + thread) * 16, other);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
          if (own.written >> (start + i) & 1) own.of[start + i] = own.of[start + i] + v[i];
      }
  }

  __device__ __forceinline__ float4* slot_of(int block, int tile) const {
    return reinterpret_cast<float4*>(args.partials + args.partition.slot(block, tile) *
                                                         static_cast<std::int64_t>(T::kSlotFloats)) +
           warp_of_team * kWarpSize + lane;
  }
  /// A tile that several stripes share: every block leaves its sums in the workspace, and whoever comes last
  /// adds them up, in the order of the blocks. Is that this block? The others write nothing.
  __device__ __forceinline__ bool add_stripes(Own& own, int tile, int first, int last) const {
    constexpr int kQuadStride = T::kTeamWarps * kWarpSize;
    float4* const slot = slot_of(blockIdx.x, tile);
#pragma unroll
    for (int i = 0; i < kOwn; ++i)
      if (own.written >> i & 1) __stcg(slot + quad_of(i) * kQuadStride, own.of[i]);
    __threadfence();
    sync();
    if (thread == 0) {
      const int others = last - first, before = atomicAdd(args.counters + tile, 1);
      if (before == others) args.counters[tile] = 0;
      asm volatile("st.shared.s32 [%0], %1;" ::"r"(memory.flag()), "r"(before == others ? 1 : 0) : "memory");
    }
    sync();
    int all_there;
    asm volatile("ld.shared.s32 %0, [%1];" : "=r"(all_there) : "r"(memory.flag()) : "memory");
    if (!all_there) return false;
    __threadfence();
#pragma unroll
    for (int start = 0; start < kOwn; start += kAtOnce) {
      float4 sum[kAtOnce];
#pragma unroll
      for (float4& s : sum) s = {0.0f, 0.0f, 0.0f, 0.0f};
      for (int block = first; block <= last; ++block) {
        const float4* const from = slot_of(block, tile);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i)
          if (own.written >> (start + i) & 1) {
            float4 v = own.of[start + i];
            if (block != static_cast<int>(blockIdx.x)) v = __ldcg(from + quad_of(start + i) * kQuadStride);
            sum[i] = sum[i] + v;
          }
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) own.of[start + i] = sum[i];
    }
    return true;
  }

  /// What the finished sums of a column are multiplied with, and what is added then; of a lane's two columns
  /// in each of its fragments.
  static constexpr int kOwnFragments =
      T::kTeams == 2 ? std::min(kOwn, T::kFragments) : T::kFragments / std::gcd(T::kFragments, T::kTeams);
  static constexpr bool own_fragments_take_turns() {
    for (int team = 0; team < T::kTeams; ++team)
      for (int i = 0; i < kOwn; ++i)
        if (quad_of(i, team) % T::kFragments != quad_of(i % kOwnFragments, team) % T::kFragments)
          return false;
    return true;
  }
  struct Columns {  // own.of[i] has the fragment of i % kOwnFragments
    static_assert(own_fragments_take_turns());
    float2 factor[kOwnFragments], bias[kOwnFragments];
  };
  /// The value of a column, in the order of one scale per column.
  __device__ __forceinline__ static float column_value(const std::uint16_t* permuted, int n) {
    return to_floats<T::kFloat>(permuted[n / kTileN * kTileN + single_scale_position(n % kTileN)]).x;
  }
  __device__ __forceinline__ int fragment_of(int q) const {
    return first_fragment + q % T::kFragments;
  }
  __device__ __forceinline__ Columns columns(int n0) const {
    constexpr bool kGlobal = (is_fp4(T::kWeight) && T::kActivationBytes == 2) || T::kInSteps;
    float all = 1.0f;
    if constexpr (kGlobal)
      all = (T::kWeight == Weight::nvfp4 ? args.global_scale : 1.0f) *
            kLeftOut<T::kWeight, T::kFloat, T::kInSteps>;
    if constexpr (T::kActivationBytes == 1) all = 1.0f / kDecoded8<T::kWeight, T::kActivations8>;
    const bool one_scale = T::kGroupShift < 0 && !args.grouped, inside = n0 + tile_of_warp * kTileN < args.n;
    Columns c;
#pragma unroll
    for (int i = 0; i < kOwnFragments; ++i) {
      const int n = n0 + tile_of_warp * kTileN + fragment_of(quad_of(i)) * 16 + lane / 4;
      c.factor[i] = {all, all};
      c.bias[i] = {0.0f, 0.0f};
      if (one_scale && inside) {
        constexpr float kApplied = 1.0f / kUnscaled<T::kWeight, T::kFloat>;
        c.factor[i] = {column_value(args.column_scales, n) * kApplied * all,
                       column_value(args.column_scales, n + 8) * kApplied * all};
      }
      if (args.bias && inside) c.bias[i] = {column_value(args.bias, n), column_value(args.bias, n + 8)};
    }
    return c;
  }
  /// Two matrices of 8 rows and 8 columns: this lane has columns 2 (lane % 4) and one more of row lane / 4,
  /// as far as columns of one fragment are neighbours.
  struct Rounded {
    std::uint32_t low, high;  ///< of the columns from 0 and from 8 on
  };
  /// own.of[i], finished.
  __device__ __forceinline__ Rounded rounded(const Own& own, int i, const Columns& columns, int m0) const {
    float4 v = own.of[i];
    const float2 factor = columns.factor[i % kOwnFragments], bias = columns.bias[i % kOwnFragments];
    v = {v.x * factor.x, v.y * factor.x, v.z * factor.y, v.w * factor.y};
    if constexpr (T::kActivationBytes == 1) {
      // Not fused with the addition of a bias: these products round, too.
      const int row = m0 + quad_of(i) / T::kFragments * 8 + lane % 4 * 2;
      const float first = row < args.m ? __ldg(args.row_scales + row) : 0.0f,
                  second = row + 1 < args.m ? __ldg(args.row_scales + row + 1) : 0.0f;
      v = {__fmul_rn(v.x, first), __fmul_rn(v.y, second), __fmul_rn(v.z, first), __fmul_rn(v.w, second)};
    }
    return {transposed(round_to<T::kFloat>(v.x + bias.x, v.y + bias.x)),
            transposed(round_to<T::kFloat>(v.z + bias.y, v.w + bias.y))};
  }
  __device__ __forceinline__ std::uint16_t* out_at(int row, int n) const {
    return static_cast<std::uint16_t*>(args.out) + static_cast<std::int64_t>(row) * args.n + n;
  }
  /// Where a warp has all columns of a fragment: 32 bytes of each row.
  __device__ __forceinline__ void write_fragments(const Own& own, const Columns& values, int m0,
                                                  int n0) const {
    if (n0 + tile_of_warp * kTileN >= args.n) return;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      if (!(own.written >> i & 1)) continue;
      const Rounded v = rounded(own, i, values, m0);
      const int q = quad_of(i), row = m0 + q / T::kFragments * 8 + lane / 4,
                n = n0 + tile_of_warp * kTileN + fragment_of(q) * 16 + lane % 4 * 2;
      if (row >= args.m) continue;
      *reinterpret_cast<std::uint32_t*>(out_at(row, n)) = v.low;
      *reinterpret_cast<std::uint32_t*>(out_at(row, n + 8)) = v.high;
    }
  }
  /// Elsewhere through shared memory from `at` on, kRows at a time, where they are put into order: for every
  /// 64 columns kRows rows of 128 bytes, whose chunks are swizzled. `mine(eight, tile)`: eight rows of 64
  /// columns that this block writes.
  template <int kRows, class Mine>
  __device__ __forceinline__ void write_rows(const Own& own, int m0, int n0, std::uint32_t at,
                                             Mine mine) const {
    constexpr int kChunks = T::kBlockN / 8;  ///< of a row
    const Columns values = columns(n0);
    const auto place = [at](int row, int chunk) {
      return at + (chunk / 8 * kRows * 8 + activation_chunk<8>(row, chunk % 8)) * kChunkBytes;
    };
    // Where this lane's values of the first eight rows go: two columns, or each of them by itself.
    const auto lane_at = [&](int column, int chunk) {
      return place(lane / 4, tile_of_warp * 8 + fragment_of_row(column) * 2 + chunk) + column * 2;
    };
    const std::uint32_t low_at = lane_at(lane % 4 * 2, 0), high_at = lane_at(lane % 4 * 2, 1),
                        next_low_at = lane_at(lane % 4 * 2 + 1, 0),
                        next_high_at = lane_at(lane % 4 * 2 + 1, 1);
#pragma unroll 1
    for (int first = 0; first < T::kTileM && m0 + first < args.m; first += kRows) {
      sync();  // nobody still reads what is overwritten
#pragma unroll
      for (int i = 0; i < kOwn; ++i) {
        const int row = quad_of(i) * 8 - first;
        if (!(own.written >> i & 1) || row < 0 || row >= kRows || n0 + tile_of_warp * kTileN >= args.n)
          continue;
        const Rounded v = rounded(own, i, values, m0);
        if constexpr (kRowsTogether == 2) {
          store_shared_word(low_at + row * 128, v.low);
          store_shared_word(high_at + row * 128, v.high);
        } else {
          store_shared_half(low_at + row * 128, v.low);
          store_shared_half(high_at + row * 128, v.high);
          store_shared_half(next_low_at + row * 128, v.low >> 16);
          store_shared_half(next_high_at + row * 128, v.high >> 16);
        }
      }
      sync();
      for (int i = thread; i < kRows * kChunks; i += T::kConsumers) {
        const int row = i / kChunks, chunk = i % kChunks;
        if (m0 + first + row < args.m && n0 + chunk * 8 < args.n && mine((first + row) / 8, chunk / 8))
          *reinterpret_cast<uint4*>(out_at(m0 + first + row, n0 + chunk * 8)) =
              load_shared(place(row, chunk));
      }
    }
  }
  template <int kRows, class Mine>
  __device__ __forceinline__ void write(const Own& own, const Columns& values, int m0, int n0,
                                        std::uint32_t at, Mine mine) const {
    if constexpr (T::kFragments == 1)
      write_rows<kRows>(own, m0, n0, at, mine);
    else
      write_fragments(own, values, m0, n0);
  }

  /// `last`: of the block. The ring's memory is free then, and the tile's blocks may be a cluster.
  __device__ __forceinline__ void finish(int tile, bool last) const {
    if (in_cluster(args.partition, tile))
      finish_in_cluster(tile);
    else if (!T::kAllAtOnce && last)
      finish_alone<kAll, T::kTileM>(tile, memory.ring());
    else
      finish_alone<T::kPieceQuads, T::kOutRows>(tile, memory.behind_ring());
  }

 private:
  template <int kPiece, int kRows>
  __device__ __forceinline__ void finish_alone(int tile, std::uint32_t at) const {
    const Partition& p = args.partition;
    const auto [m0, n0] = TilePlace<T>{p, tile};
    const Columns values = columns(n0);  // before they are wanted: they may take long
    Own own = add_teams<kPiece>(at, live_quads(m0));
    const int first = p.first_block(tile), last = p.last_block(tile);
    if (first != last && !add_stripes(own, tile, first, last)) return;
    write<kRows>(own, values, m0, n0, at, [](int, int) { return true; });
  }
  __device__ __forceinline__ void finish_in_cluster(int tile) const {
    const auto [m0, n0] = TilePlace<T>{args.partition, tile};
    const Columns values = columns(n0);
    // Sums that are pushed are few: what is known of their owners need not wait for them.
    ClusterShares numbers;
    if constexpr (T::kPush) numbers = shares(live_quads(m0));
    Own own = add_teams<kAll>(memory.ring(), live_quads(m0));
    if constexpr (T::kPush) {
      push_in_cluster(own, numbers, args.m - m0);
    } else {
      numbers = shares(live_quads(m0));
      pull_in_cluster(own, numbers);
    }
    const int rank = cluster_rank();
    write<T::kClusterOutRows>(
        own, values, m0, n0, memory.base + T::kClusterOutAt,
        [&](int eight, int tile_n) { return numbers.owner(eight * T::kTilesN + tile_n) == rank; });
    if constexpr (!T::kPush) {  // the others may still be reading the sums of this block
      cluster_arrive();
      cluster_wait();
    }
  }
  /// Quads that have rows of the matrix.
  __device__ __forceinline__ int live_quads(int m0) const {
    return (min(T::kTileM, args.m - m0) + 7) / 8 * T::kFragments;
  }
};

}  // namespace mpk
