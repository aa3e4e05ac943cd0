// What the page says, in English and Chinese, and how it writes numbers.

const ENGLISH = {
  tagline: 'Uploads that survive the network: only what is missing is ever sent.',
  keyLabel: 'This gateway asks for a key or a token',
  keyUse: 'Use it',
  keyHint: 'Kept in this tab until it is closed, and sent only to this gateway.',
  keyUnknown: 'This is not known here, or no longer.',
  keyNeeded: 'Type it in above; the upload then goes on by itself.',
  offered: (name) => `The link that led here would sign you in as ${name}.`,
  offeredInstead: (name) => `It would take the place of your session: ${name}.`,
  offerUse: 'Sign in',
  offerRefuse: 'Ignore it',
  aKey: 'an API key',
  somebody: 'somebody whose name it does not say',
  drop: 'Drop files here',
  choose: 'or choose them from this computer',
  uploads: 'Uploads',
  unfinished: 'Unfinished',
  unfinishedHint: 'Begun earlier in this browser. Choose the same file again, or drop it above, and the rest is sent.',
  pause: 'Pause',
  resume: 'Resume',
  cancel: 'Cancel',
  remove: 'Remove from list',
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
  pausing: 'Pausing once the chunks on their way have arrived…',
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
  answered: (status) => `The server answered ${status}`,
  codes: {
    body_timeout: 'The connection fell silent',
    body_too_short: 'The connection broke off',
    checksum_mismatch: 'A chunk arrived damaged',
    chunk_conflict: 'Another file was begun under this upload',
    chunk_superseded: 'The same chunk was sent again elsewhere',
    database_unavailable: 'The gateway cannot reach its database',
    file_not_found: 'The file is no longer there',
    file_too_large: 'The file is too large',
    hook_unavailable: 'The application does not answer',
    insufficient_scope: 'The token is not for this',
    integrity_failed: 'The file did not arrive as it was sent',
    internal: 'The gateway made a mistake',
    issuer_unavailable: 'Tokens cannot be checked just now',
    key_taken: 'The place that the application chose is taken',
    origin_not_allowed: 'The gateway does not serve this address',
    overloaded: 'The gateway is busy',
    quota_exceeded: 'There is no room left',
    rate_limited: 'Too many requests',
    refused_by_application: 'The application does not take this file',
    storage_full: 'The server has no space left',
    store_unavailable: 'The gateway cannot reach its storage',
    token_expired: 'The token has ended',
    token_malformed: 'This is no key and no token',
    token_reused: 'The login has ended',
    token_revoked: 'The login has ended',
    too_many_uploads: 'Too many uploads are open',
    type_not_allowed: 'Files of this kind are not taken',
    unauthorized: 'A key is needed',
    upload_aborted: 'The upload was given up',
    upload_completed: 'The upload is already complete',
    upload_completing: 'The parts are just being joined',
    upload_conflict: 'Another file was begun under this upload',
    upload_expired: 'The upload has expired',
    upload_failed: 'The upload failed',
    upload_lost: 'The storage no longer has this upload',
    upload_not_found: 'The upload is no longer there',
  },
};

const CHINESE = {
  tagline: '不怕断网的上传：永远只补传缺少的部分。',
  keyLabel: '此网关需要密钥或令牌',
  keyUse: '使用',
  keyHint: '只保存在当前标签页中，关闭即清除，并且只发送给此网关。',
  keyUnknown: '密钥或令牌无效，或已失效。',
  keyNeeded: '请在上方输入密钥，随后会自动继续上传。',
  offered: (name) => `您打开的链接将以 ${name} 的身份登录。`,
  offeredInstead: (name) => `您当前的登录（${name}）将被替换。`,
  offerUse: '登录',
  offerRefuse: '忽略',
  aKey: 'API 密钥',
  somebody: '未写明的用户',
  drop: '把文件拖到这里',
  choose: '或从电脑中选择',
  uploads: '上传',
  unfinished: '未完成',
  unfinishedHint: '之前在此浏览器中开始的上传。重新选择（或拖入）同一个文件，即可只传剩余部分。',
  pause: '暂停',
  resume: '继续',
  cancel: '取消',
  remove: '从列表移除',
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
  pausing: '正在暂停，等待已发出的分片到达…',
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
  answered: (status) => `服务器返回 ${status}`,
  codes: {
    body_timeout: '连接长时间没有数据',
    body_too_short: '连接中断',
    checksum_mismatch: '分片在传输中损坏',
    chunk_conflict: '此上传属于另一个文件',
    chunk_superseded: '同一分片已在别处重新发送',
    database_unavailable: '网关无法连接数据库',
    file_not_found: '文件已不存在',
    file_too_large: '文件过大',
    hook_unavailable: '应用没有应答',
    insufficient_scope: '令牌没有此权限',
    integrity_failed: '收到的文件与发送的不一致',
    internal: '网关内部错误',
    issuer_unavailable: '暂时无法核对令牌',
    key_taken: '应用选定的存放位置已被占用',
    origin_not_allowed: '网关不允许从此地址访问',
    overloaded: '网关繁忙',
    quota_exceeded: '空间不足',
    rate_limited: '请求过于频繁',
    refused_by_application: '应用不接受此文件',
    storage_full: '服务器空间不足',
    store_unavailable: '网关无法连接存储',
    token_expired: '令牌已过期',
    token_malformed: '这不是有效的密钥或令牌',
    token_reused: '登录已失效',
    token_revoked: '登录已失效',
    too_many_uploads: '未完成的上传过多',
    type_not_allowed: '不接受此类文件',
    unauthorized: '需要密钥',
    upload_aborted: '上传已被放弃',
    upload_completed: '上传已经完成',
    upload_completing: '正在合并分片',
    upload_conflict: '此上传属于另一个文件',
    upload_expired: '上传已过期',
    upload_failed: '上传失败',
    upload_lost: '存储中已没有此上传',
    upload_not_found: '上传已不存在',
  },
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
