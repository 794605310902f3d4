// A new pool; the answer is its id.
//
// Errors: kExists, kInvalid (name, redundancy, stripe unit, groups), kNoSpace (too many pools).
#include <algorithm>
#include <bit>

#include "mds/cluster/placement.h"
#include "mds/ops/limits.h"
#include "mds/ops/ops.h"
#include "mds/ops/pools.h"

namespace cairn::mds::ops {
namespace {

bool isGoodName(std::string_view name) {
  auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  return !name.empty() && name.size() <= kMaxPoolNameBytes && std::ranges::all_of(name, good);
}

Result<void> checkRedundancy(const Pool& pool) {
  if (pool.replicas != 0) {
    if (pool.ecData != 0 || pool.ecParity != 0)
      return fail(Errc::kInvalid, "a pool has copies or an erasure code, not both");
    if (pool.replicas > kMaxReplicas)
      return fail(Errc::kInvalid, "at most " + std::to_string(kMaxReplicas) + " copies");
    return {};
  }
  if (pool.ecData < 2 || pool.ecData > kMaxEcData || pool.ecParity < 1 ||
      pool.ecParity > kMaxEcParity)
    return fail(Errc::kInvalid, "an erasure code K+M has K from 2 to " +
                                    std::to_string(kMaxEcData) + " and M from 1 to " +
                                    std::to_string(kMaxEcParity));
  return {};
}

// 0: what is usual.
Result<void> setStripeUnit(Pool& pool, uint32_t bytes) {
  if (!pool.erasureCoded()) {
    if (bytes != 0) return fail(Errc::kInvalid, "a pool of whole copies has no stripe unit");
    return {};
  }
  if (bytes != 0 &&
      (!std::has_single_bit(bytes) || bytes < kMinStripeUnit || bytes > kMaxStripeUnit))
    return fail(Errc::kInvalid, "a stripe unit is a power of two from 4 KiB to 1 MiB, not " +
                                    std::to_string(bytes) + " bytes");
  pool.stripeUnit = bytes != 0 ? bytes : kEcStripeUnit;
  return {};
}

}  // namespace

Result<void> poolCreate(OpContext& ctx, schema::PoolCreate::Reader args) {
  const auto name = textOf(args.getName());
  if (!isGoodName(name))
    return fail(Errc::kInvalid,
                "a pool's name has 1 to 64 letters, digits, '-', '_' or '.': not '" +
                    std::string(name.substr(0, kMaxPoolNameBytes)) + "'");
  const ClusterMap& map = ctx.cluster().map;
  if (map.poolByName(name) != nullptr)
    return fail(Errc::kExists, "there is a pool '" + std::string(name) + "' already");
  if (map.pools.size() >= kMaxPools) return fail(Errc::kNoSpace, "there are too many pools");

  Pool pool;
  pool.name = name;
  pool.replicas = args.getReplicas();
  pool.ecData = args.getEcData();
  pool.ecParity = args.getEcParity();
  TRY(checkRedundancy(pool));
  TRY(setMinSize(pool, args.getMinSize()));
  TRY(setStripeUnit(pool, args.getStripeUnit()));
  pool.deviceClass = args.getDeviceClass();
  pool.anyClass = args.getAnyClass();
  pool.failureDomain = args.getFailureDomain();
  if (pool.deviceClass > schema::DeviceClass::HDD ||
      pool.failureDomain > schema::FailureDomain::RACK)
    return fail(Errc::kInvalid, "unknown device class or failure domain");
  if (args.getPgCount() > kMaxPgCount)
    return fail(Errc::kInvalid, "at most " + std::to_string(kMaxPgCount) + " placement groups");
  const uint32_t pgCount = args.getPgCount() != 0 ? args.getPgCount() : choosePgCount(map, pool);
  const PoolId id = addPool(ctx, std::move(pool), args.getAutoDomain(), pgCount);
  ctx.reply().setId(id.value);
  return {};
}

}  // namespace cairn::mds::ops
