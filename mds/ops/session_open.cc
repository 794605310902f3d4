// A mount says hello and gets its number. Errors: kInvalid (texts of unreasonable length).
#include "mds/ops/limits.h"
#include "mds/ops/ops.h"

namespace cairn::mds::ops {

Result<void> sessionOpen(OpContext& ctx, schema::SessionOpen::Reader args) {
  SessionInfo session;
  session.addr = textOf(args.getAddr());
  session.mount = textOf(args.getMount());
  session.host = textOf(args.getHost());
  session.pid = args.getPid();
  if (session.addr.size() + session.mount.size() + session.host.size() > 3 * kMaxTextBytes)
    return fail(Errc::kInvalid, "address, mount point or host name too long");
  session.id = SessionId(ctx.counters().nextSession++);
  ctx.reply().setId(session.id.value);
  ctx.openSession(std::move(session));
  return {};
}

}  // namespace cairn::mds::ops
