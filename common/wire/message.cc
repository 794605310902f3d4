#include "common/wire/message.h"

#include <algorithm>

#include "common/base/assert.h"

namespace cairn {

namespace {
// Most headers fit; a larger one grows into more segments and is made one when it is sent.
constexpr unsigned kFirstSegmentWords = 96;
}  // namespace

OutMessage::OutMessage()
    : builder_(std::make_unique<capnp::MallocMessageBuilder>(kFirstSegmentWords)),
      header_(builder_->initRoot<schema::RpcHeader>()) {
  header_.setKind(schema::RpcHeader::Kind::REQUEST);  // a hello, which is zero, says so itself
}

void OutMessage::addPayload(Buffer part) {
  if (part.empty()) return;
  payloadBytes_ += part.size();
  payload_.push_back(std::move(part));
}

Bytes OutMessage::flatHeader() {
  auto segments = builder_->getSegmentsForOutput();
  if (segments.size() != 1) {
    size_t words = 1;
    for (auto s : segments) words += s.size();
    auto flat = std::make_unique<capnp::MallocMessageBuilder>(
        static_cast<unsigned>(words), capnp::AllocationStrategy::FIXED_SIZE);
    flat->setRoot(header_.asReader());
    builder_ = std::move(flat);
    header_ = builder_->getRoot<schema::RpcHeader>();
    segments = builder_->getSegmentsForOutput();
    CAIRN_ASSERT(segments.size() == 1, "a copied message fits the words it took before");
  }
  auto bytes = segments[0].asBytes();
  return {bytes.begin(), bytes.size()};
}

Result<InMessage> InMessage::parse(Buffer header, Buffer payload) {
  CAIRN_ASSERT(header.size() % sizeof(capnp::word) == 0, "a header is whole words");
  InMessage m;
  m.parsed_ = std::make_unique<Parsed>();
  Parsed& p = *m.parsed_;
  p.bytes = std::move(header);
  size_t words = p.bytes.size() / sizeof(capnp::word);
  p.segment =
      kj::ArrayPtr<const capnp::word>(reinterpret_cast<const capnp::word*>(p.bytes.data()), words);
  capnp::ReaderOptions options;
  // Validation walks the message once and the reader may do so a few times; far more is an
  // amplification attack.
  options.traversalLimitInWords = std::max<uint64_t>(4096, 8 * words);
  options.nestingLimit = 32;
  try {
    p.reader.emplace(kj::ArrayPtr<const kj::ArrayPtr<const capnp::word>>(&p.segment, 1), options);
    m.header_ = p.reader->getRoot<schema::RpcHeader>();
    m.header_.totalSize();  // follows every pointer: throws on one that leaves the message
  } catch (const kj::Exception& e) {
    return fail(Errc::kBadMessage, "header is not a valid message");
  }
  m.payload_ = std::move(payload);
  return m;
}

}  // namespace cairn
