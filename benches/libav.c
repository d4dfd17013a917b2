// Opens files and decodes their first video stream to the end with libav and nothing else, one thread each, in as many
// processes as are asked for: the bound of benches/decode.py. Prints the number of frames.
//
//   libav PROCESSES LIST     LIST: one path a line

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what, const char *path) {
    fprintf(stderr, "libav: %s: %s\n", what, path);
    exit(1);
}

static long decode(const char *path) {
    AVFormatContext *input = NULL;
    if (avformat_open_input(&input, path, NULL, NULL) < 0 || avformat_find_stream_info(input, NULL) < 0)
        fail("cannot open", path);
    const AVCodec *codec = NULL;
    int stream = av_find_best_stream(input, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
    if (stream < 0) fail("no video", path);
    AVCodecContext *decoder = avcodec_alloc_context3(codec);
    avcodec_parameters_to_context(decoder, input->streams[stream]->codecpar);
    decoder->thread_count = 1;
    if (avcodec_open2(decoder, codec, NULL) < 0) fail("no decoder", path);
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    long frames = 0;
    for (int more = 1; more;) {
        more = av_read_frame(input, packet) >= 0;
        if (!more || packet->stream_index == stream) {
            if (avcodec_send_packet(decoder, more ? packet : NULL) < 0) fail("cannot decode", path);
            while (avcodec_receive_frame(decoder, frame) >= 0) frames++;
        }
        av_packet_unref(packet);
    }
    av_packet_free(&packet);
    av_frame_free(&frame);
    avcodec_free_context(&decoder);
    avformat_close_input(&input);
    return frames;
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    int processes = atoi(arguments[1]);
    // What all processes share: the next file, and the frames so far.
    long *shared = mmap(NULL, 2 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char **paths = NULL, line[4096];
    long all = 0;
    FILE *list = fopen(arguments[2], "r");
    if (!list) fail("cannot read", arguments[2]);
    while (fgets(line, sizeof line, list)) {
        line[strcspn(line, "\n")] = 0;
        paths = realloc(paths, (all + 1) * sizeof *paths);
        paths[all++] = strdup(line);
    }
    for (int i = 0; i < processes; i++)
        if (fork() == 0) {
            for (long at; (at = __sync_fetch_and_add(&shared[0], 1)) < all;)
                __sync_fetch_and_add(&shared[1], decode(paths[at]));
            _exit(0);
        }
    for (int status; wait(&status) > 0;)
        if (status != 0) return 1;
    printf("%ld\n", shared[1]);
    return 0;
}
