// AVX-512 with VNNI: Cascade Lake and later.
#include "distance/kernels/table.h"
#include "distance/kernels/vnni.h"
#include "distance/kernels/words.h"
#include "distance/kernels/zmm.h"

namespace akidb::avx512_vnni {
constexpr Kernels kKernels =
    table<VnniCodes, Zmm>(SimdLevel::kAvx512Vnni, "avx512_vnni", floats<Zmm>(), floats<ZmmHalf>(), floats<ZmmBFloat>(),
                          bytes<SquaredDifferences<ZmmInt8>, Int8Products>(),
                          bytes<SquaredDifferences<ZmmUint8>, Uint8Products>(), bits<WordBits>());
}
