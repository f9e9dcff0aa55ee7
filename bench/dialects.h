/* What the mock upstream says, in each dialect: the same words, in the shape their makers send them (Gemini's line ends
 * are CRLF). Every piece of a stream is one SSE event in an HTTP chunk of its own.
 */
enum { HEAD_MAX = 2, TAIL_MAX = 3 };

typedef struct { char *p; size_t n; } piece;

typedef struct {
  piece reply;
  piece head[HEAD_MAX];   /* the first begins with the HTTP head */
  piece say[2];           /* of one length, in turn. LiteLLM breaks a stream off whose chunks repeat a hundred times. */
  piece tail[TAIL_MAX];   /* the last ends with the last HTTP chunk */
  int nhead, ntail;
} dialect;

static dialect openai, anthropic, google;

#define SSE_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n" \
    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\nx-request-id: req_bench\r\n\r\n"
#define LAST_CHUNK "0\r\n\r\n"

static piece http_chunk(const char *head, const char *data, const char *tail) {
  piece out;
  out.n = asprintf(&out.p, "%s%zx\r\n%s\r\n%s", head, strlen(data), data, tail);
  return out;
}

static piece json_reply(const char *before, const char *text, const char *after) {
  piece out;
  out.n = asprintf(&out.p,
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
    "x-request-id: req_bench\r\n\r\n%s%s%s", strlen(before) + strlen(text) + strlen(after), before, text, after);
  return out;
}

static void build_openai(const char *text) {
#define PRE "data: {\"id\":\"chatcmpl-BenchMock0123456789abcdef\",\"object\":\"chat.completion.chunk\"," \
    "\"created\":1750000000,\"model\":\"mock-model-2025-01-01\",\"system_fingerprint\":\"fp_bench\","
#define SAY(word) PRE "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" word "\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
  openai = (dialect){
    .reply = json_reply(
      "{\"id\":\"chatcmpl-BenchMock0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1750000000,"
      "\"model\":\"mock-model-2025-01-01\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"", text,
      "\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
      "\"usage\":{\"prompt_tokens\":250,\"completion_tokens\":220,\"total_tokens\":470},"
      "\"system_fingerprint\":\"fp_bench\"}"),
    .head = {http_chunk(SSE_HEAD,
      PRE "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n", "")},
    .say = {http_chunk("", SAY(" gateway"), ""), http_chunk("", SAY(" forward"), "")},
    .tail = {
      http_chunk("", PRE "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n", ""),
      http_chunk("", PRE "\"choices\":[],\"usage\":{\"prompt_tokens\":250,\"completion_tokens\":100,\"total_tokens\":350}}\n\n", ""),
      http_chunk("", "data: [DONE]\n\n", LAST_CHUNK)},
    .nhead = 1, .ntail = 3};
#undef PRE
#undef SAY
}

static void build_anthropic(const char *text) {
#define EVENT(type, fields) "event: " type "\ndata: {\"type\":\"" type "\"" fields "}\n\n"
#define SAY(word) EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" word "\"}")
#define MESSAGE "\"id\":\"msg_01BenchMock0123456789abcd\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"mock-model-2025-01-01\","
#define READ "\"usage\":{\"input_tokens\":250,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0," \
    "\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},"
  anthropic = (dialect){
    .reply = json_reply("{" MESSAGE "\"content\":[{\"type\":\"text\",\"text\":\"", text,
      "\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null," READ "\"output_tokens\":220,\"service_tier\":\"standard\"}}"),
    .head = {
      http_chunk(SSE_HEAD, EVENT("message_start", ",\"message\":{" MESSAGE "\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
        READ "\"output_tokens\":1,\"service_tier\":\"standard\"}}"), ""),
      http_chunk("", EVENT("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"), "")},
    .say = {http_chunk("", SAY(" gateway"), ""), http_chunk("", SAY(" forward"), "")},
    .tail = {
      http_chunk("", EVENT("content_block_stop", ",\"index\":0"), ""),
      http_chunk("", EVENT("message_delta", ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":"
        "{\"input_tokens\":250,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":100}"), ""),
      http_chunk("", EVENT("message_stop", ""), LAST_CHUNK)},
    .nhead = 2, .ntail = 3};
#undef EVENT
#undef SAY
#undef MESSAGE
#undef READ
}

static void build_google(const char *text) {
#define ABOUT "\"modelVersion\": \"mock-model-2025-01-01\",\"responseId\": \"BenchMock0123456789abcd\"}"
#define READ "\"promptTokenCount\": 250,\"promptTokensDetails\": [{\"modality\": \"TEXT\",\"tokenCount\": 250}],"
#define SAY(word) "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"" word "\"}],\"role\": \"model\"}}]," \
    "\"usageMetadata\": {" READ "\"totalTokenCount\": 250}," ABOUT "\r\n\r\n"
  google = (dialect){
    .reply = json_reply("{\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"", text,
      "\"}],\"role\": \"model\"},\"finishReason\": \"STOP\",\"index\": 0}],\"usageMetadata\": {" READ
      "\"candidatesTokenCount\": 220,\"totalTokenCount\": 470}," ABOUT),
    .head = {{strdup(SSE_HEAD), strlen(SSE_HEAD)}},   /* nobody says who speaks before the first word */
    .say = {http_chunk("", SAY(" gateway"), ""), http_chunk("", SAY(" forward"), "")},
    .tail = {http_chunk("", "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"\"}],\"role\": \"model\"},"
      "\"finishReason\": \"STOP\"}],\"usageMetadata\": {" READ "\"candidatesTokenCount\": 100,\"totalTokenCount\": 350}," ABOUT "\r\n\r\n",
      LAST_CHUNK)},
    .nhead = 1, .ntail = 1};
#undef ABOUT
#undef READ
#undef SAY
}

static void build_all(void) {
  char text[1101];
  const char *words = "The gateway forwards this answer without changing a byte of it, and counts tokens. ";
  for (int i = 0; i < 1100; i++) text[i] = words[i % strlen(words)];
  text[1100] = 0;
  build_openai(text);
  build_anthropic(text);
  build_google(text);
}
