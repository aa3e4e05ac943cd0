// What the page says, in English and Chinese, and how it writes numbers.

const ENGLISH = {
  tagline: 'Uploads that survive the network: only what is missing is ever sent.',
  keyLabel: 'This gateway asks for a key',
  keyUse: 'Use it',
  keyHint: 'Kept in this tab until it is closed, and sent only to this gateway.',
  drop: 'Drop files here',
  choose: 'or choose them from this computer',
  uploads: 'Uploads',
  unfinished: 'Unfinished',
  unfinishedHint: 'Begun earlier in this browser. Choose the same file again, or drop it above, and the rest is sent.',
  pause: 'Pause',
  resume: 'Resume',
  cancel: 'Cancel',
  remove: 'Remove',
  restart: 'Start over',
  download: 'Download',
  pick: 'Choose the file',
  waiting: 'Waiting for its turn',
  starting: 'Looking for what has already arrived…',
  offline: 'Offline. Goes on by itself when the network is back.',
  finishing: 'All sent. The parts are being joined…',
  completed: 'Done',
  cancelled: 'Cancelled',
  failed: 'Stopped',
  paused: (percent) => `Paused at ${percent}`,
  arrived: (percent) => `${percent} arrived`,
  left: (time) => `${time} left`,
  retry: (seconds, reason) => `Trying again in ${seconds} s: ${reason}`,
  otherFile: 'This is another file',
  otherFileDetail: (name) => `Its name, size or date differ from those of ${name}. Choose the one the upload was begun with.`,
  unreachable: 'The server cannot be reached',
  unreachableDetail: 'Nothing that has arrived is lost. Resume once the network is back.',
  unreadable: 'The file cannot be read any more',
  unreadableDetail: 'It was changed or moved since it was chosen, or it is a folder. Choose it again.',
  trouble: 'Something went wrong',
};

const CHINESE = {
  tagline: '不怕断网的上传：永远只补传缺少的部分。',
  keyLabel: '此网关需要密钥',
  keyUse: '使用',
  keyHint: '只保存在当前标签页中，关闭即清除，并且只发送给此网关。',
  drop: '把文件拖到这里',
  choose: '或从电脑中选择',
  uploads: '上传',
  unfinished: '未完成',
  unfinishedHint: '之前在此浏览器中开始的上传。重新选择（或拖入）同一个文件，即可只传剩余部分。',
  pause: '暂停',
  resume: '继续',
  cancel: '取消',
  remove: '移除',
  restart: '重新开始',
  download: '下载',
  pick: '选择文件',
  waiting: '排队中',
  starting: '正在查询已上传的分片…',
  offline: '网络已断开，恢复后会自动继续。',
  finishing: '已全部发送，正在合并…',
  completed: '完成',
  cancelled: '已取消',
  failed: '已停止',
  paused: (percent) => `已暂停，${percent}`,
  arrived: (percent) => `已上传 ${percent}`,
  left: (time) => `剩余 ${time}`,
  retry: (seconds, reason) => `${seconds} 秒后重试：${reason}`,
  otherFile: '不是同一个文件',
  otherFileDetail: (name) => `文件名、大小或修改时间与 ${name} 不符，请选择当初上传的那个文件。`,
  unreachable: '无法连接服务器',
  unreachableDetail: '已上传的内容不会丢失，网络恢复后点击“继续”。',
  unreadable: '文件已无法读取',
  unreadableDetail: '文件在选择之后被修改或移动，或者它是一个文件夹，请重新选择。',
  trouble: '出错了',
};

export const language = /^zh\b/i.test(navigator.language) ? 'zh-CN' : 'en';
export const words = language === 'en' ? ENGLISH : CHINESE;

/** Puts the words where the page's elements ask for them. */
export function translate(root) {
  root.documentElement.lang = language;
  for (const element of root.querySelectorAll('[data-words]')) element.textContent = words[element.dataset.words];
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

export function bytes(count) {
  const power = count < 1000 ? 0 : Math.min(Math.floor(Math.log10(count) / 3), UNITS.length - 1);
  const value = count / 1000 ** power;
  const digits = power > 0 && value < 100 ? 1 : 0;
  return `${value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits })} ${UNITS[power]}`;
}

/** Rounded down: 100 % is said of nothing that is not whole. */
export function percent(part, whole) {
  return `${whole === 0 ? 100 : Math.floor((part / whole) * 100)} %`;
}

export function duration(seconds) {
  const whole = Math.ceil(seconds);
  const h = Math.floor(whole / 3600);
  const m = Math.floor((whole % 3600) / 60);
  const s = whole % 60;
  if (h > 0) return `${h} h ${m} min`;
  return m > 0 ? `${m} min ${s} s` : `${s} s`;
}
