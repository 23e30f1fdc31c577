/* A device of PROTOCOL.md, by libmosquitto: device HOST PORT NAME NODE. It serves the methods of docs/protocol/cases/device.json. */

#define _DEFAULT_SOURCE
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEEPEST = 32, MOST = 2, DAY = 86400 };

struct value { char kind; const char *text; size_t length; };

static const char *name, *node;
static char epoch[17], requests[256], entry_topic[256], state_topic[256];

static const char *blank(const char *at) {
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') at++;
    return at;
}

static const char *skip(const char *at, int depth);

/* The end of a JSON string, or NULL. */
static const char *string_end(const char *at) {
    for (at++; *at != '"'; at++) {
        if ((unsigned char)*at < ' ') return NULL;
        if (*at == '\\' && !strchr("\"\\/bfnrtu", *++at)) return NULL;
        if (*at == '\0') return NULL;
    }
    return at + 1;
}

/* The end of a list or an object, or NULL. */
static const char *group_end(const char *at, int depth) {
    char end = *at == '[' ? ']' : '}';
    at = blank(at + 1);
    if (*at == end) return at + 1;
    for (;;) {
        if (end == '}') {
            if (*at != '"' || !(at = string_end(at))) return NULL;
            at = blank(at);
            if (*at++ != ':') return NULL;
        }
        if (!(at = skip(at, depth + 1))) return NULL;
        at = blank(at);
        if (*at == end) return at + 1;
        if (*at++ != ',') return NULL;
        at = blank(at);
    }
}

/* The end of the JSON value that begins here, or NULL. */
static const char *skip(const char *at, int depth) {
    at = blank(at);
    if (depth > DEEPEST) return NULL;
    if (*at == '"') return string_end(at);
    if (*at == '[' || *at == '{') return group_end(at, depth);
    for (int i = 0; i < 3; i++) {
        const char *word = i == 0 ? "null" : i == 1 ? "true" : "false";
        if (!strncmp(at, word, strlen(word))) return at + strlen(word);
    }
    if (*at != '-' && (*at < '0' || *at > '9')) return NULL;
    char *end;
    strtod(at, &end);
    return end > at ? end : NULL;
}

/* The items of a list: how many, -1 for what is not JSON, -2 for what is no list of at most MOST. */
static int parameters(const char *payload, struct value *values) {
    const char *at = blank(payload), *end = skip(payload, 0);
    if (*at == '\0') return 0;
    if (!end || *blank(end) != '\0') return -1;
    if (*at != '[') return -2;
    int count = 0;
    for (at = blank(at + 1); *at != ']'; at = blank(*blank(end) == ',' ? blank(end) + 1 : end)) {
        if (count == MOST) return -2;
        end = skip(at, 1);
        values[count++] = (struct value){*at == '-' || (*at >= '0' && *at <= '9') ? 'n' : *at, at, (size_t)(end - at)};
    }
    return count;
}

static void answer(const char *method, const char *payload, char *reply, size_t size) {
    struct value p[MOST];
    bool add = !strcmp(method, "add"), say = !strcmp(method, "say"), fail = !strcmp(method, "fail");
    int count = parameters(payload, p);
    if (!add && !say && !fail)
        snprintf(reply, size, "{\"error\":{\"code\":-32601,\"message\":\"no such method\"}}");
    else if (count == -1)
        snprintf(reply, size, "{\"error\":{\"code\":-32700,\"message\":\"not JSON\"}}");
    else if (add ? count != 2 || p[0].kind != 'n' || p[1].kind != 'n' : count != 1 || p[0].kind != '"')
        snprintf(reply, size, "{\"error\":{\"code\":-32602,\"message\":\"expected %s\"}}", add ? "two numbers" : "a text");
    else if (add)
        snprintf(reply, size, "%.17g", strtod(p[0].text, NULL) + strtod(p[1].text, NULL));
    else if (say)
        snprintf(reply, size, "%.*s", (int)p[0].length, p[0].text);
    else
        snprintf(reply, size, "{\"error\":{\"code\":-32000,\"message\":\"as asked\",\"data\":{\"kind\":%.*s}}}", (int)p[0].length, p[0].text);
}

static bool is_oneway(const mosquitto_property *properties) {
    char *key = NULL, *text = NULL;
    bool oneway = false, again = false;
    while ((properties = mosquitto_property_read_string_pair(properties, MQTT_PROP_USER_PROPERTY, &key, &text, again))) {
        oneway = oneway || (!strcmp(key, "oneway") && !strcmp(text, "1"));
        free(key);
        free(text);
        again = true;
    }
    return oneway;
}

static void requested(struct mosquitto *client, void *data, const struct mosquitto_message *message, const mosquitto_property *properties) {
    (void)data;
    char *topic = NULL;
    void *correlation = NULL;
    uint16_t length = 0;
    mosquitto_property_read_string(properties, MQTT_PROP_RESPONSE_TOPIC, &topic, false);
    const char *method = strrchr(message->topic, '/') + 1;
    if (topic && !message->retain && !strncmp(topic, "rantai/reply/", 13) && !strpbrk(topic, "+#") && !is_oneway(properties)) {
        size_t size = (size_t)message->payloadlen + 128;
        char *payload = calloc(1, (size_t)message->payloadlen + 1), *reply = calloc(1, size);
        mosquitto_property *echoed = NULL;
        if (message->payloadlen) memcpy(payload, message->payload, (size_t)message->payloadlen);
        answer(method, payload, reply, size);
        if (mosquitto_property_read_binary(properties, MQTT_PROP_CORRELATION_DATA, &correlation, &length, false))
            mosquitto_property_add_binary(&echoed, MQTT_PROP_CORRELATION_DATA, correlation, length);
        mosquitto_publish_v5(client, NULL, topic, (int)strlen(reply), reply, 1, false, echoed);
        mosquitto_property_free_all(&echoed);
        free(payload);
        free(reply);
        free(correlation);
    }
    free(topic);
}

static void connected(struct mosquitto *client, void *data, int reason) {
    (void)data;
    if (reason) {
        fprintf(stderr, "refused: %s\n", mosquitto_connack_string(reason));
        exit(1);
    }
    char entry[512], state[128];
    mosquitto_property *expiry = NULL;
    mosquitto_property_add_int32(&expiry, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, DAY);
    int entry_length = snprintf(entry, sizeof entry, "{\"v\":1,\"object\":\"%s\",\"node\":\"%s\",\"epoch\":\"%s\",\"settled\":true,\"methods\":[\"add\",\"say\",\"fail\"]}", name, node, epoch);
    int state_length = snprintf(state, sizeof state, "{\"v\":1,\"state\":\"ready\",\"epoch\":\"%s\"}", epoch);
    mosquitto_subscribe(client, NULL, requests, 1);
    mosquitto_publish_v5(client, NULL, entry_topic, entry_length, entry, 1, true, expiry);
    mosquitto_publish_v5(client, NULL, state_topic, state_length, state, 1, true, expiry);
    mosquitto_property_free_all(&expiry);
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: device HOST PORT NAME NODE\n");
        return 2;
    }
    name = argv[3];
    node = argv[4];
    unsigned random[2];
    if (getentropy(random, sizeof random)) return 1;
    snprintf(epoch, sizeof epoch, "%08x%08x", random[0], random[1]);
    snprintf(requests, sizeof requests, "$share/%s/rantai/call/%s/#", name, name);
    snprintf(entry_topic, sizeof entry_topic, "rantai/name/%s/%s", name, node);
    snprintf(state_topic, sizeof state_topic, "rantai/node/%s", node);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(node, true, NULL);
    mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    char will[128];
    int will_length = snprintf(will, sizeof will, "{\"v\":1,\"state\":\"lost\",\"epoch\":\"%s\"}", epoch);
    mosquitto_will_set(client, state_topic, will_length, will, 1, true);
    mosquitto_connect_callback_set(client, connected);
    mosquitto_message_v5_callback_set(client, requested);
    if (mosquitto_connect(client, argv[1], atoi(argv[2]), 30) != MOSQ_ERR_SUCCESS) {
        fprintf(stderr, "cannot connect to %s:%s\n", argv[1], argv[2]);
        return 1;
    }
    return mosquitto_loop_forever(client, -1, 1);
}
