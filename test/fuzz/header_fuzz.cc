// The Cap'n Proto header on its own, without the checksum that keeps a fuzzer out of it.
#include "common/schema/mds.capnp.h"
#include "common/schema/osd.capnp.h"
#include "common/wire/message.h"

using namespace cairn;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static BufferPool pool;
  size -= size % 8;
  if (size == 0) return 0;
  auto m = InMessage::parse(pool.copyOf({data, size}), {});
  if (!m) return 0;
  try {
    (void)m->header().getDetail().size();
    auto mds = m->body<schema::MdsRequest>();
    (void)mds.totalSize();
    if (mds.isMutate() && mds.getMutate().isMake())
      (void)mds.getMutate().getMake().getName().size();
    auto osd = m->body<schema::OsdRequest>();
    if (osd.isReplicate() && osd.getReplicate().isWrite())
      (void)osd.getReplicate().getWrite().getCrcs().size();
  } catch (const kj::Exception&) {
  }
  return 0;
}
