#include "common/wire/frame.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/crc/crc32c.h"

namespace cairn {

namespace {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

constexpr uint32_t kMagic = 0x314e5243;  // "CRN1"
constexpr size_t kStagingBytes = 64 * 1024;
constexpr size_t kMaxPartsPerWrite = 512;  // well below IOV_MAX

struct Preamble {
  uint32_t magic;
  uint32_t headerBytes;
  uint32_t payloadBytes;
  uint32_t crc;  // CRC32C of the twelve bytes before and of the header
};
static_assert(sizeof(Preamble) == kPreambleBytes);

uint32_t headerCrc(const Preamble& p, Bytes header) {
  uint32_t crc = crc32c({reinterpret_cast<const uint8_t*>(&p), offsetof(Preamble, crc)});
  return crc32cExtend(crc, header);
}

}  // namespace

FrameReader::FrameReader(Stream& stream, BufferPool& buffers, FrameLimits limits)
    : stream_(stream), buffers_(buffers), limits_(limits), staging_(buffers.get(kStagingBytes)) {}

Task<Result<void>> FrameReader::fill(MutBytes into) {
  size_t have = std::min(into.size(), to_ - from_);
  if (have != 0) std::memcpy(into.data(), staging_.data() + from_, have);
  from_ += have;
  while (have < into.size()) {
    // Staging is empty here: what comes after `into` lands at its start.
    from_ = to_ = 0;
    iovec parts[2] = {{into.data() + have, into.size() - have}, staging_.iov()};
    auto n = co_await stream_.read(parts);
    CO_TRY(n);
    if (*n == 0) co_return fail(Errc::kUnavailable, "the peer closed the connection");
    size_t mine = std::min(*n, into.size() - have);
    have += mine;
    to_ = *n - mine;
  }
  co_return Result<void>{};
}

Task<Result<InMessage>> FrameReader::next() {
  Preamble p;
  CO_TRY(co_await fill({reinterpret_cast<uint8_t*>(&p), sizeof p}));
  if (p.magic != kMagic) co_return fail(Errc::kBadMessage, "not a Cairn frame");
  if (p.headerBytes == 0 || p.headerBytes % 8 != 0 || p.headerBytes > limits_.maxHeaderBytes ||
      p.payloadBytes > limits_.maxPayloadBytes)
    co_return fail(Errc::kBadMessage, "a frame beyond the limits");
  Buffer header = buffers_.get(p.headerBytes);
  CO_TRY(co_await fill(header.bytes()));
  if (headerCrc(p, header.bytes()) != p.crc)
    co_return fail(Errc::kBadMessage, "a frame whose header does not match its checksum");
  Buffer payload;
  if (p.payloadBytes != 0) {
    payload = buffers_.get(p.payloadBytes);
    CO_TRY(co_await fill(payload.bytes()));
  }
  co_return InMessage::parse(std::move(header), std::move(payload));
}

Result<void> checkFits(OutMessage& message, FrameLimits limits) {
  const size_t header = message.flatHeader().size(), payload = message.payloadBytes();
  if (header > limits.maxHeaderBytes)
    return fail(Errc::kInvalid, "a message of " + std::to_string(header) + " bytes, where " +
                                    std::to_string(limits.maxHeaderBytes) + " are the limit");
  if (payload > limits.maxPayloadBytes)
    return fail(Errc::kInvalid, "a payload of " + std::to_string(payload) + " bytes, where " +
                                    std::to_string(limits.maxPayloadBytes) + " are the limit");
  return {};
}

Task<Result<void>> writeFrames(Stream& stream, std::deque<OutMessage>& messages) {
  std::vector<Preamble> preambles;
  preambles.reserve(messages.size());  // parts point into it
  std::vector<iovec> parts;
  for (auto& m : messages) {
    if (parts.size() + 2 + m.payload().size() > kMaxPartsPerWrite && !parts.empty()) {
      CO_TRY(co_await stream.write(parts));
      parts.clear();
    }
    Bytes header = m.flatHeader();
    Preamble p{kMagic, static_cast<uint32_t>(header.size()),
               static_cast<uint32_t>(m.payloadBytes()), 0};
    p.crc = headerCrc(p, header);
    preambles.push_back(p);
    parts.push_back({&preambles.back(), sizeof p});
    parts.push_back({const_cast<uint8_t*>(header.data()), header.size()});
    for (const auto& b : m.payload()) {
      parts.push_back(b.iov());
      if (parts.size() == kMaxPartsPerWrite) {
        CO_TRY(co_await stream.write(parts));
        parts.clear();
      }
    }
  }
  if (!parts.empty()) CO_TRY(co_await stream.write(parts));
  co_return Result<void>{};
}

}  // namespace cairn
