// A frame of a video at the network's size, as Letterbox.resize of letterbox.py makes it on the host.

typedef unsigned char Byte;

// Of a frame: rows and columns, and how many bytes apart rows, columns and channels are.
struct Frame {
    const Byte *pixels;
    long long row, column, channel;
    int rows, columns;
};

__device__ static float at(const Frame &frame, int y, int x, int c) {
    return frame.pixels[y * frame.row + x * frame.column + c * frame.channel];
}

// A pixel of the frame drawn at rows x columns, between its four neighbours, as a whole number.
__device__ static int between(const Frame &frame, int rows, int columns, int y, int x, int c) {
    float down = fmaxf((y + 0.5f) * frame.rows / rows - 0.5f, 0);
    float right = fmaxf((x + 0.5f) * frame.columns / columns - 0.5f, 0);
    int top = (int)down, left = (int)right;
    int bottom = min(top + 1, frame.rows - 1), beside = min(left + 1, frame.columns - 1);
    down -= top;
    right -= left;
    float above = at(frame, top, left, c) * (1 - right) + at(frame, top, beside, c) * right;
    float below = at(frame, bottom, left, c) * (1 - right) + at(frame, bottom, beside, c) * right;
    return (int)(above * (1 - down) + below * down + 0.5f);
}

// Mean of the frame's part that lies under a pixel of rows x columns.
__device__ static int mean(const Frame &frame, int rows, int columns, int y, int x, int c) {
    float height = (float)frame.rows / rows, width = (float)frame.columns / columns;
    float top = y * height, bottom = fminf(top + height, frame.rows);
    float left = x * width, right = fminf(left + width, frame.columns);
    float sum = 0;
    for (int i = (int)top; i < bottom; i++)
        for (int j = (int)left; j < right; j++) {
            float covered = (fminf(i + 1, bottom) - fmaxf(i, top)) *
                            (fminf(j + 1, right) - fmaxf(j, left));
            sum += covered * at(frame, i, j, c);
        }
    return (int)(sum / (height * width) + 0.5f);
}

// One thread for each pixel [y, x] of the network's frame, Byte [height, width, 3], of which the
// video takes rows x columns; what lies outside goes on as the edge does.
extern "C" __global__ void letterbox(const Byte *pixels, long long row, long long column,
                                     long long channel, int video_rows, int video_columns,
                                     int rows, int columns, int area_average, Byte *out,
                                     int height, int width) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (y >= height || x >= width) return;
    Frame frame = {pixels, row, column, channel, video_rows, video_columns};
    int i = min(y, rows - 1), j = min(x, columns - 1);
    for (int c = 0; c < 3; c++) {
        int value;
        if (area_average) {
            value = mean(frame, rows, columns, i, j, c);
        } else {  // drawn at twice the size, then averaged two by two
            int sum = 2;
            for (int k = 0; k < 4; k++)
                sum += between(frame, 2 * rows, 2 * columns, 2 * i + k / 2, 2 * j + k % 2, c);
            value = sum / 4;
        }
        out[(y * width + x) * 3 + c] = value;
    }
}
