// Frames from a hostile peer: whatever the bytes and however they are cut, the reader gives
// messages or errors.
#include "common/schema/mds.capnp.h"
#include "common/schema/osd.capnp.h"
#include "common/wire/frame.h"
#include "test/unit/common/wire/byte_stream.h"

using namespace cairn;

namespace {

// Touches what a handler would.
void look(const InMessage& m) {
  try {
    auto osd = m.body<schema::OsdRequest>();
    if (osd.isWrite()) (void)osd.getWrite().getCrcs().size();
    if (osd.isRemove())
      for (auto c : osd.getRemove().getChunks()) (void)c;
    auto mds = m.body<schema::MdsRequest>();
    if (mds.isMutate()) (void)mds.getMutate().totalSize();
    if (mds.isLookup()) (void)mds.getLookup().getName().size();
  } catch (const kj::Exception&) {  // the server answers that by closing the connection
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static BufferPool pool;
  test::ByteStream in(std::string(reinterpret_cast<const char*>(data + 1), size - 1), 1 + data[0]);
  FrameReader reader(in, pool, {1 << 20, 4 << 20});
  while (true) {
    auto m = test::runNow(reader.next());
    if (!m) return 0;
    look(*m);
  }
}
