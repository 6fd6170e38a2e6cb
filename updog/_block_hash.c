/* The digests of many 4096-byte blocks of a dm-verity tree, by the SHA instructions of x86-64.
 *
 * A processor waits for each of these instructions as long as it would take for two to four of
 * them: several blocks side by side are hashed in little more than half the time of one after the
 * other. Python's hashlib cannot do that, and it takes the interpreter's lock twice for each block.
 *
 * Knows nothing of trees. Its input is of a fixed shape and is never parsed; updog.block_hash, the
 * only caller, compares its first digest with hashlib's before it is trusted.
 *
 * Source: FIPS 180-4 for the algorithm; Intel, "New Instructions Supporting the Secure Hash
 * Algorithm on Intel Architecture Processors" (2013), for what the instructions do.
 */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <cpuid.h>
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define BLOCK_BYTES 4096
#define CHUNK_BYTES 64 /* what SHA-256 takes in at a time */
#define DIGEST_BYTES 32
#define MOST_SALT_BYTES 256
#define LANES 4 /* blocks side by side; more of them than registers for them gains nothing */

#define USES_SHA __attribute__((target("sha,ssse3,sse4.1")))
#define UNROLLED _Pragma("GCC unroll 16")

static const uint32_t INITIAL[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static const uint32_t ROUND_CONSTANTS[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

/* The eight words of a hash in the order that the instructions want: A B E F and C D G H. */
typedef struct {
    __m128i abef, cdgh;
} State;

/* One message being hashed: its state, and where its next chunk is read. */
typedef struct {
    State state;
    const uint8_t *next;
} Lane;

USES_SHA static inline __m128i swap_bytes(__m128i words) {
    return _mm_shuffle_epi8(words, _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
}

/* Take the next chunk of each lane in. `count` is a constant wherever this is inlined. */
USES_SHA static inline __attribute__((always_inline)) void take_chunk(Lane *lanes, int count) {
    __m128i abef[LANES], cdgh[LANES], words[LANES][4];
    UNROLLED
    for (int lane = 0; lane < count; lane++) {
        abef[lane] = lanes[lane].state.abef;
        cdgh[lane] = lanes[lane].state.cdgh;
        UNROLLED
        for (int i = 0; i < 4; i++) {
            const __m128i *at = (const __m128i *)(lanes[lane].next + 16 * i);
            words[lane][i] = swap_bytes(_mm_loadu_si128(at));
        }
    }
    UNROLLED
    for (int i = 0; i < 16; i++) { /* four rounds each */
        const __m128i constants = _mm_load_si128((const __m128i *)(ROUND_CONSTANTS + 4 * i));
        UNROLLED
        for (int lane = 0; lane < count; lane++) {
            __m128i *w = words[lane];
            const __m128i added = _mm_add_epi32(w[i % 4], constants);
            cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], added);
            abef[lane] =
                _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], _mm_shuffle_epi32(added, 0x0e));
            if (i < 12) { /* the words of four rounds, sixteen rounds on */
                __m128i later = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
                later = _mm_add_epi32(later, _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
                w[i % 4] = _mm_sha256msg2_epu32(later, w[(i + 3) % 4]);
            }
        }
    }
    UNROLLED
    for (int lane = 0; lane < count; lane++) {
        lanes[lane].state.abef = _mm_add_epi32(lanes[lane].state.abef, abef[lane]);
        lanes[lane].state.cdgh = _mm_add_epi32(lanes[lane].state.cdgh, cdgh[lane]);
        lanes[lane].next += CHUNK_BYTES;
    }
}

USES_SHA static State initial_state(void) {
    const __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)INITIAL), 0xb1);
    const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(INITIAL + 4)), 0x1b);
    return (State){
        .abef = _mm_alignr_epi8(cdab, efgh, 8),
        .cdgh = _mm_blend_epi16(efgh, cdab, 0xf0),
    };
}

USES_SHA static void store_digest(State state, uint8_t *digest) {
    const __m128i feba = _mm_shuffle_epi32(state.abef, 0x1b);
    const __m128i dchg = _mm_shuffle_epi32(state.cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)digest, swap_bytes(_mm_blend_epi16(feba, dchg, 0xf0)));
    _mm_storeu_si128((__m128i *)(digest + 16), swap_bytes(_mm_alignr_epi8(dchg, feba, 8)));
}

/* How salt and block lie in chunks: whole ones of salt alone, one of the salt's rest and the block's
 * beginning unless there is no rest, whole ones of the block alone, then its end and the padding. */
typedef struct {
    State salted; /* after the whole chunks of salt */
    uint8_t rest[CHUNK_BYTES];
    size_t rest_bytes, head_bytes, whole_chunks, end_bytes, tail_bytes;
    uint64_t message_bits;
} Layout;

USES_SHA static Layout lay_out(const uint8_t *salt, size_t salt_bytes) {
    Layout layout = {0};
    Lane lane = {.state = initial_state(), .next = salt};
    for (size_t chunks = salt_bytes / CHUNK_BYTES; chunks > 0; chunks--)
        take_chunk(&lane, 1);
    layout.salted = lane.state;
    layout.rest_bytes = salt_bytes % CHUNK_BYTES;
    memcpy(layout.rest, lane.next, layout.rest_bytes);
    layout.head_bytes = layout.rest_bytes ? CHUNK_BYTES - layout.rest_bytes : 0;
    layout.whole_chunks = (BLOCK_BYTES - layout.head_bytes) / CHUNK_BYTES;
    layout.end_bytes = (BLOCK_BYTES - layout.head_bytes) % CHUNK_BYTES;
    /* The padding is a bit and 64 bits of length. */
    layout.tail_bytes = layout.end_bytes + 9 > CHUNK_BYTES ? 2 * CHUNK_BYTES : CHUNK_BYTES;
    layout.message_bits = 8 * (uint64_t)(salt_bytes + BLOCK_BYTES);
    return layout;
}

/* Hash `count` consecutive blocks. `count` is a constant wherever this is inlined. */
USES_SHA static inline __attribute__((always_inline)) void hash_blocks(
    const Layout *layout, const uint8_t *blocks, uint8_t *digests, int count) {
    Lane lanes[LANES];
    uint8_t heads[LANES][CHUNK_BYTES], tails[LANES][2 * CHUNK_BYTES];
    for (int lane = 0; lane < count; lane++) {
        const uint8_t *block = blocks + lane * BLOCK_BYTES;
        lanes[lane].state = layout->salted;
        lanes[lane].next = block;
        if (layout->rest_bytes) {
            memcpy(heads[lane], layout->rest, layout->rest_bytes);
            memcpy(heads[lane] + layout->rest_bytes, block, layout->head_bytes);
            lanes[lane].next = heads[lane];
        }
    }
    if (layout->rest_bytes) {
        take_chunk(lanes, count);
        for (int lane = 0; lane < count; lane++)
            lanes[lane].next = blocks + lane * BLOCK_BYTES + layout->head_bytes;
    }
    for (size_t chunk = 0; chunk < layout->whole_chunks; chunk++)
        take_chunk(lanes, count);
    for (int lane = 0; lane < count; lane++) {
        uint8_t *tail = tails[lane];
        memset(tail, 0, sizeof tails[lane]);
        memcpy(tail, lanes[lane].next, layout->end_bytes);
        tail[layout->end_bytes] = 0x80;
        for (size_t byte = 0; byte < 8; byte++)
            tail[layout->tail_bytes - 1 - byte] = (uint8_t)(layout->message_bits >> 8 * byte);
        lanes[lane].next = tail;
    }
    for (size_t at = 0; at < layout->tail_bytes; at += CHUNK_BYTES)
        take_chunk(lanes, count);
    for (int lane = 0; lane < count; lane++)
        store_digest(lanes[lane].state, digests + lane * DIGEST_BYTES);
}

/* Whether blocks side by side are empty, as a large part of a file system is that has room left. */
static int are_zero(const uint8_t *blocks) {
    static const uint8_t zeros[LANES * BLOCK_BYTES];
    return memcmp(blocks, zeros, sizeof zeros) == 0;
}

USES_SHA static void hash_all(
    const uint8_t *salt, size_t salt_bytes, const uint8_t *blocks, size_t count, uint8_t *digests) {
    const Layout layout = lay_out(salt, salt_bytes);
    const uint8_t *of_zeros = NULL; /* digests of empty blocks side by side, once there were some */
    size_t done = 0;
    for (; count - done >= LANES; done += LANES) {
        const uint8_t *from = blocks + done * BLOCK_BYTES;
        uint8_t *to = digests + done * DIGEST_BYTES;
        const int zero = are_zero(from);
        if (zero && of_zeros) {
            memcpy(to, of_zeros, LANES * DIGEST_BYTES);
            continue;
        }
        hash_blocks(&layout, from, to, LANES);
        if (zero)
            of_zeros = to;
    }
    for (; done < count; done++)
        hash_blocks(&layout, blocks + done * BLOCK_BYTES, digests + done * DIGEST_BYTES, 1);
}

static PyObject *digests(PyObject *module, PyObject *arguments) {
    (void)module;
    Py_buffer salt, data;
    PyObject *found = NULL;
    if (!PyArg_ParseTuple(arguments, "y*y*:digests", &salt, &data))
        return NULL;
    if (salt.len > MOST_SALT_BYTES)
        PyErr_Format(PyExc_ValueError, "a salt has %d bytes at most", MOST_SALT_BYTES);
    else if (data.len % BLOCK_BYTES)
        PyErr_Format(PyExc_ValueError, "the data is no whole number of blocks");
    else
        found = PyBytes_FromStringAndSize(NULL, data.len / BLOCK_BYTES * DIGEST_BYTES);
    if (found) {
        uint8_t *to = (uint8_t *)PyBytes_AsString(found);
        Py_BEGIN_ALLOW_THREADS
        hash_all(salt.buf, (size_t)salt.len, data.buf, (size_t)data.len / BLOCK_BYTES, to);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&salt);
    PyBuffer_Release(&data);
    return found;
}

static int has_sha_instructions(void) {
    unsigned int a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_SHA))
        return 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSSE3) && (c & bit_SSE4_1);
}

static int start(PyObject *module) {
    (void)module;
    if (has_sha_instructions())
        return 0;
    PyErr_SetString(PyExc_ImportError, "this processor has no SHA instructions");
    return -1;
}

static PyMethodDef functions[] = {
    {"digests", digests, METH_VARARGS, "digests(salt, data): of each block of data, joined"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, start}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_block_hash", .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__block_hash(void) { return PyModuleDef_Init(&definition); }
